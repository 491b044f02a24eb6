// NewFile: the file that a command writes an image to, so that half an image never has its name.
//
// A name that does not exist gets its file when that is complete: until then the image is written
// to ".NAME.part" in the same folder, which then gets the name. Where that can not be done (the
// name exists, the format writes other files besides or its own name into itself, the file system
// has no locks) it is written under its name, and what a failure leaves is taken away again.
//
// What a failure leaves of it aside can be kept, with a note beside it (".NAME.part.begun") of what
// it was to be, for somebody who goes on with it.
//
// Invariants
// - A guard, a lock on a byte of the unnamed file that no other program uses, is held from before
//   it is written until it has its name: of two commands that make one name the second one fails at
//   once, and the remains of one that was killed are told from one that runs.
// - What existed before is never removed. A regular file that was written over and is not whole is
//   made empty instead, unless somebody else uses it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "io/fd.h"

namespace cairn::tools {

class NewFile {
 public:
  enum class Way : uint8_t {
    kAside,      // may be written under another name first
    kInPlace,    // has to be written under its own
    kElsewhere,  // is no file: there is nothing to give a name to, and nothing to take away
  };

  // Nothing is made yet, but for the empty file aside. EAGAIN when another command makes it.
  [[nodiscard]] static Result<NewFile> begin(const std::string& path, Way way);
  // The same for what may have been begun before: when the file aside has a note that says the
  // same, it is as it was left. EEXIST when the note says something else, EINVAL when it can not be
  // written aside.
  [[nodiscard]] static Result<NewFile> begin_or_resume(const std::string& path, std::string note);
  NewFile() = default;

  // Where the image is to be created and opened.
  [[nodiscard]] const std::string& path() const { return aside() ? aside_ : path_; }
  [[nodiscard]] bool aside() const { return guard_.valid(); }

  // More that is made with it, in place. To be called before that is done.
  void add(const std::string& path);
  // A file that belongs to it and that was written anew, whatever was there before.
  void add_written(std::string path) { fresh_.push_back(std::move(path)); }
  // Whether the image itself did not exist.
  [[nodiscard]] bool fresh() const { return !existed_; }

  // Whether it goes on with what somebody left.
  [[nodiscard]] bool resumed() const { return resumed_; }
  // From here on abandon() leaves the file aside, and its note.
  [[nodiscard]] Result<void> keep_incomplete();
  [[nodiscard]] bool kept() const { return kept_; }

  // From here on there is something to take away.
  void created() { created_ = true; }

  // The image is complete, and closed: gives it its name. `durable`: so that it survives a power
  // cut. ENOENT when somebody has removed the file, EEXIST when somebody has taken the name.
  [[nodiscard]] Result<void> publish(bool durable);

  // Takes away what is there of it; what could not be is told in the result. Does nothing after
  // publish(). To be called once nobody here uses the file.
  [[nodiscard]] Result<void> abandon();

  // The name that the user knows in place of the other.
  [[nodiscard]] Error in_users_words(Error error) const;

 private:
  [[nodiscard]] Result<bool> open_aside(const std::string& aside);
  [[nodiscard]] static std::string note_path(const std::string& aside) { return aside + ".begun"; }
  [[nodiscard]] bool still_there(const std::string& path) const;

  std::string path_;
  std::string aside_;
  io::Fd guard_;  // valid: written aside
  bool existed_ = false;
  bool is_file_ = true;
  bool created_ = false;
  std::string note_;
  bool resumed_ = false;
  bool kept_ = false;
  std::vector<std::string> fresh_;  // to remove; in place
};

}  // namespace cairn::tools
