#include "tools/common/new_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "protocols/file/image_lock.h"

namespace cairn::tools {
namespace {

// The locks of images are on bytes 100 to 299.
constexpr off_t kGuardByte = 400;
constexpr std::size_t kLongestName = 255;
constexpr int kAttempts = 5;
constexpr std::size_t kLongestNote = 64u << 10;
constexpr mode_t kMode = 0644;

Error in_use(const std::string& path) {
  return Error(EAGAIN, "Failed to get \"write\" lock")
      .with_hint("Is another process using the image [" + path + "]?");
}

bool exists(const std::string& path) {
  struct stat status = {};
  return lstat(path.c_str(), &status) == 0 || errno != ENOENT;
}

// A link that leads nowhere is made to lead somewhere by creating what it names.
std::string behind_links(const std::string& path) {
  std::error_code error;
  std::filesystem::path name(path);
  for (int i = 0; i < kAttempts && std::filesystem::is_symlink(name, error); ++i) {
    const std::filesystem::path link = std::filesystem::read_symlink(name, error);
    if (error) {
      return path;
    }
    name = link.is_absolute() ? link : name.parent_path() / link;
  }
  return name.string();
}

// ".NAME.part" beside `path`; empty when that is too long for a name.
std::string name_aside(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::size_t begin = slash == std::string::npos ? 0 : slash + 1;
  const std::string name = fmt::format(".{}.part", path.substr(begin));
  return begin == path.size() || name.size() > kLongestName ? "" : path.substr(0, begin) + name;
}

bool lock_guard(int fd) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = kGuardByte;
  lock.l_len = 1;
  return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

// Fails with EEXIST rather than replace anything.
bool give_name(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) {
    return true;
  }
  if (errno != EINVAL && errno != ENOSYS) {
    return false;
  }
  // A file system that can not rename so.
  if (link(from.c_str(), to.c_str()) == 0) {
    (void)unlink(from.c_str());
    return true;
  }
  return errno != EEXIST && rename(from.c_str(), to.c_str()) == 0;
}

// What a small file holds; an error when it is none.
Result<std::string> read_note(const std::string& path) {
  const io::Fd fd(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  std::string text(kLongestNote, '\0');
  const ssize_t length = fd.valid() ? read(fd.get(), text.data(), text.size()) : -1;
  if (length < 0) {
    return fail_errno(errno, "Could not read '{}'", path);
  }
  text.resize(static_cast<size_t>(length));
  return text;
}

int sync_folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const io::Fd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd.valid() && fsync(fd.get()) == 0 ? 0 : errno;
}

// Empties a regular file, unless another program uses it. 0 or an errno.
int make_empty(const std::string& path) {
  const io::Fd fd(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  struct stat status = {};
  if (!fd.valid() || fstat(fd.get(), &status) != 0) {
    return errno == ENOENT ? 0 : errno;
  }
  if (!S_ISREG(status.st_mode)) {
    return 0;
  }
  using block::PermissionSet;
  file::ImageLock lock;
  const file::LockSet wanted{PermissionSet::kWrite | PermissionSet::kResize,
                             PermissionSet::kResize};
  if (file::image_locks_supported()) {
    const auto locked = lock.take(fd.get(), wanted);
    if (!locked && !file::locks_missing(locked.error().code())) {
      return locked.error().code();
    }
  }
  return ftruncate(fd.get(), 0) == 0 ? 0 : errno;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos;
       at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

}  // namespace

Result<NewFile> NewFile::begin(const std::string& path, Way way) {
  NewFile file;
  file.path_ = path;
  if (way == Way::kElsewhere) {
    file.existed_ = true;
    file.is_file_ = false;
    return file;
  }
  struct stat status = {};
  file.existed_ = stat(path.c_str(), &status) == 0 || errno != ENOENT;
  if (!file.existed_) {
    file.fresh_.push_back(behind_links(path));
  }
  const std::string aside = name_aside(path);
  if (way == Way::kInPlace || exists(path) || aside.empty() || !file::image_locks_supported()) {
    return file;
  }
  const Result<bool> opened = file.open_aside(aside);
  if (!opened) {
    return std::unexpected(opened.error());
  }
  return file;
}

Result<NewFile> NewFile::begin_or_resume(const std::string& path, std::string note) {
  NewFile file;
  file.path_ = path;
  file.note_ = std::move(note);
  const std::string aside = name_aside(path);
  if (exists(path)) {
    return fail(EEXIST, "'{}' exists: there is nothing to go on with", path);
  }
  Result<bool> opened = false;
  if (!aside.empty() && file::image_locks_supported()) {
    opened = file.open_aside(aside);
  }
  if (!opened) {
    return std::unexpected(opened.error());
  }
  return *opened ? Result<NewFile>(std::move(file))
                 : fail(EINVAL, "No file beside '{}' can be made to go on with later", path);
}

// False when it has to be written in place.
Result<bool> NewFile::open_aside(const std::string& aside) {
  for (int i = 0; i < kAttempts; ++i) {
    io::Fd fd(open(aside.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, kMode));
    struct stat status = {};
    if (!fd.valid() || fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
        status.st_nlink > 1 || status.st_uid != geteuid()) {
      return false;
    }
    if (!lock_guard(fd.get())) {
      if (errno == EAGAIN || errno == EACCES) {
        return std::unexpected(in_use(path_));
      }
      if (status.st_size == 0) {
        (void)unlink(aside.c_str());
      }
      return false;
    }
    guard_ = std::move(fd);
    const Result<std::string> begun = read_note(note_path(aside));
    const bool noted = !note_.empty() && begun && status.st_size > 0;
    if (noted && *begun != note_ && still_there(aside)) {
      return fail(EEXIST, "'{}' was begun in another way: repeat that, or remove it ({})", aside,
                  begun->substr(0, begun->find('\n')));
    }
    if (!still_there(aside)) {  // whoever held it has given it its name, or removed it
      guard_ = io::Fd();
    } else if (status.st_size > 0 && !noted) {  // what somebody left who was killed
      (void)unlink(aside.c_str());
      guard_ = io::Fd();
    } else {
      aside_ = aside;
      created_ = true;
      resumed_ = noted;
      if (!noted) {
        (void)unlink(note_path(aside).c_str());
      }
      return true;
    }
  }
  return std::unexpected(in_use(path_));
}

Result<void> NewFile::keep_incomplete() {
  const std::string path = note_path(aside_);
  const io::Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, kMode));
  if (!fd.valid() ||
      write(fd.get(), note_.data(), note_.size()) != static_cast<ssize_t>(note_.size())) {
    return fail_errno(errno, "Could not write '{}'", path);
  }
  kept_ = true;
  return {};
}

bool NewFile::still_there(const std::string& path) const {
  struct stat named = {};
  struct stat held = {};
  return lstat(path.c_str(), &named) == 0 && fstat(guard_.get(), &held) == 0 &&
         named.st_dev == held.st_dev && named.st_ino == held.st_ino;
}

void NewFile::add(const std::string& path) {
  if (!exists(path)) {
    fresh_.push_back(path);
  }
}

Result<void> NewFile::publish(bool durable) {
  if (!aside()) {
    if (created_ && is_file_ && access(path_.c_str(), F_OK) != 0) {
      return fail(ENOENT, "'{}' was removed while it was written", path_);
    }
    created_ = false;
    return {};
  }
  if (!still_there(aside_)) {
    return fail(ENOENT, "'{}' was removed while it was written", path_);
  }
  if (!give_name(aside_, path_)) {
    return errno == EEXIST
               ? fail(EEXIST, "Somebody else has made '{}' meanwhile; it stays as it is", path_)
               : fail_errno(errno, "Could not give the new image its name '{}'", path_);
  }
  guard_ = io::Fd();
  created_ = false;
  if (!note_.empty()) {
    (void)unlink(note_path(aside_).c_str());
  }
  if (const int error = durable ? sync_folder_of(path_) : 0; error != 0) {
    return fail_errno(error, "Could not flush the folder of '{}'", path_);
  }
  return {};
}

Result<void> NewFile::abandon() {
  if (!created_) {
    return {};
  }
  created_ = false;
  if (kept_) {
    return {};
  }
  if (aside()) {
    if (!note_.empty()) {
      (void)unlink(note_path(aside_).c_str());
    }
    const bool removed = !still_there(aside_) || unlink(aside_.c_str()) == 0;
    return removed ? Result<void>{}
                   : fail_errno(errno, "Could not remove the incomplete '{}'", aside_);
  }
  Result<void> result;
  for (const std::string& file : fresh_) {
    if (unlink(file.c_str()) != 0 && errno != ENOENT) {
      result = fail_errno(errno, "Could not remove the incomplete '{}'", file);
    }
  }
  if (existed_ && is_file_) {
    if (const int error = make_empty(path_); error != 0) {
      result = fail_errno(error, "Could not empty the incomplete '{}'", path_);
    }
  }
  return result;
}

Error NewFile::in_users_words(Error error) const {
  if (aside_.empty()) {
    return error;
  }
  Error words(error.code(), replaced(error.message(), aside_, path_), error.error_class());
  return std::move(words).with_hint(replaced(error.hint(), aside_, path_));
}

}  // namespace cairn::tools
