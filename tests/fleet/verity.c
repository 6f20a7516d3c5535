// Stands for device-mapper before RAUC where the kernel has none, or where its devices are not ours to make: preloaded
// into `rauc service`, it answers the four calls by which RAUC sets up dm-verity. What a real one finds out block by
// block as it is read, veritysetup finds out here before anything is read: the hash tree under the signed root hash is
// compared with all of the bundle. /dev/dm-0 is then the bundle's own loop device.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return openat(AT_FDCWD, strcmp(path, "/dev/mapper/control") ? path : "/dev/null", flags, mode);
}

static int load(const char *parameters) {
    char lower[64], root[129], salt[129], command[1024];
    unsigned long long blocks;
    struct stat device;
    if (sscanf(parameters, "1 %63s %*s 4096 4096 %llu %*s sha256 %128s %128s", lower, &blocks, root, salt) != 4)
        return EINVAL;
    snprintf(command, sizeof command,
             "LD_PRELOAD= veritysetup verify --no-superblock --hash=sha256 --data-block-size=4096 --hash-block-size=4096 "
             "--data-blocks=%llu --hash-offset=%llu --salt=%s %s %s %s >&2",
             blocks, blocks * 4096, salt, lower, lower, root);
    if (system(command) != 0 || stat(lower, &device) != 0)
        return EIO;
    unlink("/dev/dm-0");
    return mknod("/dev/dm-0", S_IFBLK | 0600, device.st_rdev) == 0 ? 0 : errno;
}

int ioctl(int file, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (_IOC_TYPE(request) != DM_IOCTL) {
        int (*next)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
        return next(file, request, argument);
    }
    struct dm_ioctl *header = argument;
    char *parameters = (char *)(header + 1) + sizeof(struct dm_target_spec);
    if (request == DM_TABLE_LOAD && (errno = load(parameters)) != 0)
        return -1;
    if (request == DM_TABLE_STATUS)
        strcpy(parameters, "V");
    return 0;
}
