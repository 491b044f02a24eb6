#include "tools/ctl/backup_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "crypto/digest.h"
#include "tools/ctl/interrupt.h"

namespace cairn::ctl {

namespace {

constexpr size_t kSmall = size_t{64} << 20;
constexpr size_t kPiece = size_t{1} << 20;

Result<io::Fd> open_for_reading(const std::string& path, int more_flags = 0) {
  io::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | more_flags));
  if (!fd.valid()) {
    return fail_errno(errno, "Could not open '{}'", path);
  }
  return fd;
}

// Fewer bytes than there is room for at the end of the file alone.
Result<size_t> read_piece(int fd, std::span<std::byte> room, const std::string& path) {
  size_t done = 0;
  while (done < room.size()) {
    const ssize_t count = read(fd, room.data() + done, room.size() - done);
    if (count < 0 && errno != EINTR) {
      return fail_errno(errno, "Could not read '{}'", path);
    }
    if (count == 0) {
      break;
    }
    done += static_cast<size_t>(std::max<ssize_t>(count, 0));
  }
  return done;
}

Result<void> write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t count = write(fd, content.data(), content.size());
    if (count < 0 && errno != EINTR) {
      return fail_errno(errno, "Could not write '{}'", path);
    }
    content.remove_prefix(static_cast<size_t>(std::max<ssize_t>(count, 0)));
  }
  return {};
}

Result<void> sync_directory(const std::string& directory) {
  auto fd = open_for_reading(directory, O_DIRECTORY);
  if (!fd) {
    return pass(fd);
  }
  if (fsync(fd->get()) != 0) {
    return fail_errno(errno, "Could not make the changes to '{}' durable", directory);
  }
  return {};
}

Result<void> write_durably(const std::string& path, std::string_view content) {
  const io::Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd.valid()) {
    return fail_errno(errno, "Could not make '{}'", path);
  }
  auto written = write_all(fd.get(), content, path);
  if (written && fsync(fd.get()) != 0) {
    return fail_errno(errno, "Could not make '{}' durable", path);
  }
  return written;
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<std::string> resolve_directory(const std::string& directory) {
  const std::unique_ptr<char, decltype(&std::free)> resolved(realpath(directory.c_str(), nullptr),
                                                             &std::free);
  if (!resolved) {
    return fail_errno(errno, "Could not find the directory '{}'", directory);
  }
  struct stat info{};
  if (stat(resolved.get(), &info) != 0) {
    return fail_errno(errno, "Could not look at '{}'", directory);
  }
  if (!S_ISDIR(info.st_mode)) {
    return fail(ENOTDIR, "'{}' is no directory", directory);
  }
  return std::string(resolved.get());
}

Result<std::string> make_directory(const std::string& directory) {
  if (mkdir(directory.c_str(), 0777) != 0) {
    if (errno != EEXIST) {
      return fail_errno(errno, "Could not make the directory '{}'", directory);
    }
    return resolve_directory(directory);
  }
  auto resolved = resolve_directory(directory);
  if (resolved) {
    auto synced = sync_directory(directory_of(*resolved));
    if (!synced) {
      return pass(synced);
    }
  }
  return resolved;
}

Result<io::Fd> lock_directory(const std::string& directory) {
  auto fd = open_for_reading(directory, O_DIRECTORY);
  if (!fd) {
    return fd;
  }
  if (flock(fd->get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return fail(EAGAIN, "'{}' is in use: a backup or a restore is running there", directory);
    }
    return fail_errno(errno, "Could not lock '{}'", directory);
  }
  return fd;
}

Result<bool> path_exists(const std::string& path) {
  struct stat info{};
  if (lstat(path.c_str(), &info) == 0) {
    return true;
  }
  if (errno == ENOENT) {
    return false;
  }
  return fail_errno(errno, "Could not look at '{}'", path);
}

Result<uint64_t> file_length(const std::string& path) {
  struct stat info{};
  if (stat(path.c_str(), &info) != 0) {
    return fail_errno(errno, "Could not look at '{}'", path);
  }
  if (!S_ISREG(info.st_mode)) {
    return fail(EINVAL, "'{}' is no file", path);
  }
  return static_cast<uint64_t>(info.st_size);
}

Result<void> remove_file(const std::string& path) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return fail_errno(errno, "Could not remove '{}'", path);
  }
  return {};
}

Result<std::string> read_small_file(const std::string& path) {
  const auto length = file_length(path);
  if (!length) {
    return std::unexpected(length.error());
  }
  if (*length > kSmall) {
    return fail(EFBIG, "'{}' is too large", path);
  }
  auto fd = open_for_reading(path);
  if (!fd) {
    return pass(fd);
  }
  std::string content(*length, '\0');
  const auto count = read_piece(fd->get(), std::as_writable_bytes(std::span(content)), path);
  if (!count) {
    return std::unexpected(count.error());
  }
  content.resize(*count);
  return content;
}

Result<void> replace_file(const std::string& directory, const std::string& name,
                          const std::string& content) {
  const std::string path = directory + "/" + name;
  const std::string aside = path + ".new";
  auto written = write_durably(aside, content);
  if (written && rename(aside.c_str(), path.c_str()) != 0) {
    written = fail_errno(errno, "Could not replace '{}'", path);
  }
  if (!written) {
    unlink(aside.c_str());
    return written;
  }
  return sync_directory(directory);
}

Result<void> sync_file(const std::string& path) {
  auto fd = open_for_reading(path);
  if (!fd) {
    return pass(fd);
  }
  if (fsync(fd->get()) != 0) {
    return fail_errno(errno, "Could not make '{}' durable", path);
  }
  return {};
}

Result<void> publish_file(const std::string& from, const std::string& to) {
  int failed =
      renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0 ? 0 : errno;
  if (failed == EINVAL || failed == ENOSYS) {
    // The file system can not do it at once. A link does not replace anything either.
    failed = link(from.c_str(), to.c_str()) == 0 && unlink(from.c_str()) == 0 ? 0 : errno;
  }
  if (failed != 0) {
    return fail_errno(failed, "Could not rename '{}' to '{}'", from, to);
  }
  return sync_directory(directory_of(to));
}

Result<FileDigest> digest_file(const std::string& path) {
  auto fd = open_for_reading(path);
  if (!fd) {
    return pass(fd);
  }
  auto digest = crypto::make_sha256();
  if (!digest) {
    return pass(digest);
  }
  FileDigest result;
  std::vector<std::byte> room(kPiece);
  while (true) {
    if (interrupted()) {
      return fail(EINTR, "Interrupted");
    }
    const auto count = read_piece(fd->get(), room, path);
    if (!count) {
      return std::unexpected(count.error());
    }
    (*digest)->update(std::span(room).first(*count));
    result.length += *count;
    if (*count < room.size()) {
      break;
    }
  }
  auto text = (*digest)->finish();
  if (!text) {
    return pass(text, "Could not compute a digest of '" + path + "': ");
  }
  result.sha256 = std::move(*text);
  return result;
}

Result<std::string> backing_name_in(const std::string& path) {
  auto fd = open_for_reading(path);
  if (!fd) {
    return pass(fd);
  }
  // Fields of the header: docs/interop/qcow2.rst, "Header".
  std::array<std::byte, 20> header{};
  const auto count = read_piece(fd->get(), header, path);
  if (!count) {
    return std::unexpected(count.error());
  }
  if (*count < header.size() || load_be<uint32_t>(header.data()) != 0x514649fb) {
    return fail(EINVAL, "'{}' is no qcow2 image", path);
  }
  const auto offset = load_be<uint64_t>(header.data() + 8);
  const auto length = load_be<uint32_t>(header.data() + 16);
  if (offset == 0) {
    return std::string();
  }
  if (length > 1023 || offset > (uint64_t{1} << 21)) {
    return fail(EINVAL, "'{}' has a damaged header", path);
  }
  std::string name(length, '\0');
  const ssize_t got = pread(fd->get(), name.data(), name.size(), static_cast<off_t>(offset));
  if (got < 0 || static_cast<size_t>(got) < name.size()) {
    return fail_errno(got < 0 ? errno : EIO, "Could not read '{}'", path);
  }
  return name;
}

}  // namespace cairn::ctl
