// Stands in for a device of the kernel, by LD_PRELOAD: the file $NBD_DEVICE. It takes the ioctls of
// linux/nbd.h, talks to the server as the kernel does, and logs to $NBD_DEVICE.log. When
// $NBD_DEVICE.disconnect comes to be, somebody has disconnected it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int device = -1;
static int served = -1;  // the server's socket

static const char* path_with(const char* suffix) {
  static char path[4096];
  snprintf(path, sizeof path, "%s%s", getenv("NBD_DEVICE"), suffix);
  return path;
}

static void tell(const char* format, ...) {
  FILE* log = fopen(path_with(".log"), "a");
  va_list arguments;
  va_start(arguments, format);
  vfprintf(log, format, arguments);
  va_end(arguments);
  fputc('\n', log);
  fclose(log);
}

static int open_it(const char* path, int flags, mode_t mode) {
  static int (*original)(const char*, int, ...);
  if (original == NULL) {
    original = (int (*)(const char*, int, ...))dlsym(RTLD_NEXT, "open64");
  }
  const int fd = original(path, flags, mode);
  if (strcmp(path, getenv("NBD_DEVICE")) == 0) {
    device = fd;
  }
  return fd;
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  return open_it(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  return open_it(path, flags, mode);
}

// One request with its simple reply; 0, or an errno.
static int ask(uint32_t command, uint64_t from, char* data, uint32_t length) {
  struct nbd_request request = {.magic = htobe32(NBD_REQUEST_MAGIC),
                                .type = htobe32(command),
                                .handle = "handle!",
                                .from = htobe64(from),
                                .len = htobe32(length)};
  if (send(served, &request, sizeof request, MSG_NOSIGNAL) != sizeof request) {
    return EPIPE;
  }
  if (command == NBD_CMD_DISC) {
    return 0;
  }
  if (command == NBD_CMD_WRITE) {
    send(served, data, length, MSG_NOSIGNAL);
  }
  struct nbd_reply reply;
  if (recv(served, &reply, sizeof reply, MSG_WAITALL) != sizeof reply ||
      be32toh(reply.magic) != NBD_REPLY_MAGIC || memcmp(reply.handle, "handle!", 8) != 0) {
    return EPROTO;
  }
  if (command == NBD_CMD_READ && reply.error == 0) {
    recv(served, data, length, MSG_WAITALL);
  }
  return be32toh(reply.error);
}

static int do_it(void) {
  char sector[512];
  int error = ask(NBD_CMD_READ, 0, sector, sizeof sector);
  tell("read %d %02x", error, sector[0] & 0xff);
  memset(sector, 'w', sizeof sector);
  tell("write %d", ask(NBD_CMD_WRITE, 512, sector, sizeof sector));
  tell("flush %d", ask(NBD_CMD_FLUSH, 0, NULL, 0));
  while (access(path_with(".disconnect"), F_OK) != 0) {
    struct pollfd wanted = {.fd = served, .events = POLLIN};
    char byte;
    if (poll(&wanted, 1, 20) > 0 && recv(served, &byte, 1, MSG_PEEK) <= 0) {
      tell("the server has gone");
      errno = EPIPE;
      return -1;
    }
  }
  ask(NBD_CMD_DISC, 0, NULL, 0);
  return 0;
}

int ioctl(int fd, unsigned long request, ...) {
  static int (*original)(int, unsigned long, ...);
  va_list arguments;
  va_start(arguments, request);
  const unsigned long argument = va_arg(arguments, unsigned long);
  va_end(arguments);
  if (fd != device || device < 0) {
    if (original == NULL) {
      original = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    }
    return original(fd, request, argument);
  }
  switch (request) {
    case NBD_SET_SOCK:
      served = dup((int)argument);
      break;
    case NBD_SET_BLKSIZE:
    case NBD_SET_SIZE_BLOCKS:
    case NBD_SET_FLAGS:
      tell("%s %lu",
           request == NBD_SET_FLAGS     ? "flags"
           : request == NBD_SET_BLKSIZE ? "unit"
                                        : "blocks",
           argument);
      break;
    case NBD_DO_IT:
      return do_it();
    case NBD_DISCONNECT:
      close(open(path_with(".disconnect"), O_CREAT | O_WRONLY, 0600));
      break;
    case NBD_CLEAR_SOCK:
      tell("clear");
      if (served >= 0) {
        close(served);
        served = -1;
      }
      break;
    default:
      break;
  }
  return 0;
}
