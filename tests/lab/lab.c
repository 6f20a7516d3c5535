/*
 * What the kernel lab needs besides limen: something that plays the camera, and something that turns
 * the knobs of the kernel's virtual one.
 *
 *   lab feed DEVICE WIDTH HEIGHT FRAMES_A_SECOND PICTURE...   writes the pictures round and round to the
 *                                                          output side of v4l2loopback, until killed:
 *                                                          JPEGs as they are (MJPG), or PPMs of that
 *                                                          size as YUYV. A picture may be replaced by
 *                                                          another of its kind meanwhile
 *   lab set DEVICE CONTROL VALUE                           sets the control whose name begins so
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static int fail(const char *what)
{
	fprintf(stderr, "lab: %s: %s\n", what, strerror(errno));
	return 1;
}

#define LARGEST (1 << 20)

/* A colour value times 2^16, brought back and kept within a byte. */
static unsigned char byte(int scaled)
{
	int value = (scaled + (1 << 15)) >> 16;

	return value < 0 ? 0 : value > 255 ? 255 : value;
}

/* RGB to YUYV, BT.601 with limited range, as cameras give it. Gives the number of bytes. */
static size_t yuyv(const unsigned char *rgb, size_t pixels, unsigned char *out)
{
	for (size_t pair = 0; pair < pixels / 2; pair++, rgb += 6, out += 4) {
		int r = rgb[0] + rgb[3], g = rgb[1] + rgb[4], b = rgb[2] + rgb[5];

		for (int i = 0; i < 2; i++)
			out[2 * i] = byte(16829 * rgb[3 * i] + 33039 * rgb[3 * i + 1] + 6416 * rgb[3 * i + 2] +
					  (16 << 16));
		out[1] = byte((-9714 * r - 19070 * g + 28784 * b) / 2 + (128 << 16));
		out[3] = byte((28784 * r - 24103 * g - 4681 * b) / 2 + (128 << 16));
	}
	return pixels * 2;
}

/* The bytes to write for a picture; 0 and errno when there are none. */
static size_t picture(const char *path, int width, int height, unsigned char *out)
{
	static unsigned char bytes[LARGEST];
	FILE *file = fopen(path, "rb");
	size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0, pixels = (size_t)width * height;
	int across, down, start = 0;

	if (!size)
		return 0;
	fclose(file);
	if (memcmp(bytes, "P6", 2)) {
		memcpy(out, bytes, size);
		return size;
	}
	errno = EINVAL;
	bytes[sizeof bytes - 1] = 0;
	if (sscanf((char *)bytes, "P6 %d %d 255%n", &across, &down, &start) != 2 || !start || across != width ||
	    down != height || size != start + 1 + 3 * pixels)
		return 0;
	return yuyv(bytes + start + 1, pixels, out);
}

static int feed(int device, char **args, int count)
{
	static unsigned char bytes[LARGEST];
	int width = atoi(args[0]), height = atoi(args[1]), rate = atoi(args[2]);
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_OUTPUT };
	struct timespec pause = { rate == 1, rate == 1 ? 0 : 1000000000L / rate };
	const char *end = strrchr(args[3], '.');

	format.fmt.pix.width = width;
	format.fmt.pix.height = height;
	format.fmt.pix.field = V4L2_FIELD_NONE;
	if (end && !strcmp(end, ".ppm")) {
		format.fmt.pix.pixelformat = V4L2_PIX_FMT_YUYV;
		format.fmt.pix.bytesperline = 2 * width;
		format.fmt.pix.sizeimage = 2 * width * height;
	} else {
		format.fmt.pix.pixelformat = V4L2_PIX_FMT_MJPEG;
		format.fmt.pix.sizeimage = LARGEST;
	}
	if (ioctl(device, VIDIOC_S_FMT, &format) < 0)
		return fail("VIDIOC_S_FMT");
	for (int next = 0;; next = (next + 1) % (count - 3)) {
		size_t size = picture(args[3 + next], width, height, bytes);

		if (!size)
			return fail(args[3 + next]);
		if (write(device, bytes, size) != (ssize_t)size)
			return fail("write");
		nanosleep(&pause, NULL);
	}
}

static int set(int device, const char *name, int value)
{
	struct v4l2_queryctrl query = { .id = V4L2_CTRL_FLAG_NEXT_CTRL };

	for (; ioctl(device, VIDIOC_QUERYCTRL, &query) == 0; query.id |= V4L2_CTRL_FLAG_NEXT_CTRL) {
		struct v4l2_control control = { .id = query.id, .value = value };

		if (strncmp((const char *)query.name, name, strlen(name)))
			continue;
		return ioctl(device, VIDIOC_S_CTRL, &control) < 0 ? fail(name) : 0;
	}
	errno = ENOENT;
	return fail(name);
}

int main(int count, char **args)
{
	int device = count > 4 ? open(args[2], O_RDWR) : -1;

	if (count <= 4)
		return fprintf(stderr, "usage: lab feed|set DEVICE ...\n"), 2;
	if (device < 0)
		return fail(args[2]);
	if (!strcmp(args[1], "feed") && count > 6)
		return feed(device, args + 3, count - 3);
	return set(device, args[3], atoi(args[4]));
}
