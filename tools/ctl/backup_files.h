// The files of a backup: what is asked of the file system for them, and what it is asked to
// promise.
//
// Errors name the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "io/fd.h"

namespace cairn::ctl {

// The directory without symbolic links, from the root: the daemon works somewhere else. ENOTDIR
// when it is a file.
[[nodiscard]] Result<std::string> resolve_directory(const std::string& directory);
// Makes it when it is not there, durably.
[[nodiscard]] Result<std::string> make_directory(const std::string& directory);

// Keeps every other program that asks out of the directory, for as long as the result lives. EAGAIN
// when another one is in.
[[nodiscard]] Result<io::Fd> lock_directory(const std::string& directory);

// Whether there is something of that name, a dangling symbolic link included.
[[nodiscard]] Result<bool> path_exists(const std::string& path);
// In bytes.
[[nodiscard]] Result<uint64_t> file_length(const std::string& path);
// No error when it is not there.
[[nodiscard]] Result<void> remove_file(const std::string& path);

// At most 64 MiB. ENOENT when it is not there.
[[nodiscard]] Result<std::string> read_small_file(const std::string& path);

// Puts a file with this content in the place of DIRECTORY/NAME, at once and durably. After an error
// either content may be there.
[[nodiscard]] Result<void> replace_file(const std::string& directory, const std::string& name,
                                        const std::string& content);

// Everything that was written to it, by whomever, is durable.
[[nodiscard]] Result<void> sync_file(const std::string& path);

// Renames within a directory, durably. EEXIST when there is something of the new name.
[[nodiscard]] Result<void> publish_file(const std::string& from, const std::string& to);

struct FileDigest {
  std::string sha256;
  uint64_t length = 0;
};
// Of the whole file; EINTR when the program is to end (interrupt.h).
[[nodiscard]] Result<FileDigest> digest_file(const std::string& path);

// The backing file that a qcow2 image names; empty when it names none. EINVAL when it is no qcow2
// image.
[[nodiscard]] Result<std::string> backing_name_in(const std::string& path);

}  // namespace cairn::ctl
