// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * An I2C bus on which a display answers at 0x3c and keeps what it is told: the kernel's own i2c-stub knows SMBus
 * only. What was written can be read from /sys/kernel/debug/i2csink, each message after its length (2 bytes, least
 * significant first); opening the file for writing forgets it.
 */
#include <linux/debugfs.h>
#include <linux/i2c.h>
#include <linux/module.h>
#include <linux/mutex.h>

#define ADDRESS 0x3c
#define MOST (1 << 20)

static u8 *kept;
static size_t used;
static DEFINE_MUTEX(lock);
static struct dentry *entry;

static int xfer(struct i2c_adapter *adapter, struct i2c_msg *msgs, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		if (msgs[i].addr != ADDRESS)
			return -ENXIO;
		if (msgs[i].flags & I2C_M_RD) {
			memset(msgs[i].buf, 0, msgs[i].len);
			continue;
		}
		mutex_lock(&lock);
		if (used + 2 + msgs[i].len <= MOST) {
			kept[used++] = msgs[i].len & 255;
			kept[used++] = msgs[i].len >> 8;
			memcpy(kept + used, msgs[i].buf, msgs[i].len);
			used += msgs[i].len;
		}
		mutex_unlock(&lock);
	}
	return count;
}

static u32 functionality(struct i2c_adapter *adapter)
{
	return I2C_FUNC_I2C;
}

static const struct i2c_algorithm algorithm = { .master_xfer = xfer, .functionality = functionality };

static struct i2c_adapter adapter = {
	.owner = THIS_MODULE,
	.algo = &algorithm,
	.name = "i2csink",
};

static ssize_t sink_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	ssize_t done;

	mutex_lock(&lock);
	done = simple_read_from_buffer(to, count, at, kept, used);
	mutex_unlock(&lock);
	return done;
}

static ssize_t sink_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	mutex_lock(&lock);
	used = 0;
	mutex_unlock(&lock);
	return count;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.read = sink_read,
	.write = sink_write,
	.llseek = default_llseek,
};

static int __init sink_init(void)
{
	int error;

	kept = kvzalloc(MOST, GFP_KERNEL);
	if (!kept)
		return -ENOMEM;
	error = i2c_add_adapter(&adapter);
	if (error) {
		kvfree(kept);
		return error;
	}
	entry = debugfs_create_file("i2csink", 0600, NULL, NULL, &operations);
	return 0;
}

static void __exit sink_exit(void)
{
	debugfs_remove(entry);
	i2c_del_adapter(&adapter);
	kvfree(kept);
}

module_init(sink_init);
module_exit(sink_exit);
MODULE_DESCRIPTION("I2C bus that keeps what a display is told");
MODULE_LICENSE("Dual MIT/GPL");
