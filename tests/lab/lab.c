/*
 * What the kernel lab needs besides limen: something that plays the camera, and something that turns
 * the knobs of the kernel's virtual one.
 *
 *   lab feed DEVICE WIDTH HEIGHT FRAMES_A_SECOND JPEG...   writes the JPEGs round and round to the
 *                                                          output side of v4l2loopback, until killed
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

static int feed(int device, char **args, int count)
{
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_OUTPUT };
	struct timespec pause = { 0, 1000000000L / atoi(args[2]) };

	format.fmt.pix.width = atoi(args[0]);
	format.fmt.pix.height = atoi(args[1]);
	format.fmt.pix.pixelformat = V4L2_PIX_FMT_MJPEG;
	format.fmt.pix.field = V4L2_FIELD_NONE;
	format.fmt.pix.sizeimage = 1 << 20;
	if (ioctl(device, VIDIOC_S_FMT, &format) < 0)
		return fail("VIDIOC_S_FMT");
	for (int next = 0;; next = (next + 1) % (count - 3)) {
		static char bytes[1 << 20];
		FILE *file = fopen(args[3 + next], "rb");
		size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;

		if (!size)
			return fail(args[3 + next]);
		fclose(file);
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
