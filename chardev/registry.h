// Registry: the character devices of the program, by id.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "chardev/device.h"
#include "chardev/tls.h"
#include "io/cancel.h"
#include "io/task.h"
#include "io/task_group.h"
#include "schema/types_char.h"

namespace cairn::chardev {

class Registry {
 public:
  Registry() = default;
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;
  // stop() first.
  ~Registry() = default;

  // Without it there is no TLS.
  void set_tls(TlsSource tls) { tls_ = std::move(tls); }

  // From now on standard input and output are somebody else's.
  void forbid_stdio() { stdio_allowed_ = false; }

  // Makes a device; it runs at once when start() was called. Fails with EEXIST, and no message,
  // when `id` is taken: who asks has words for that. The options outlive the task.
  [[nodiscard]] io::Task<Result<Device*>> add(std::string id,
                                              const schema::ChardevBackend& backend);
  // Puts a new device in the place of one that nothing talks through. When that fails the old one
  // stays.
  [[nodiscard]] io::Task<Result<Device*>> change(std::string id,
                                                 const schema::ChardevBackend& backend);
  [[nodiscard]] io::Task<Result<void>> remove(std::string id);

  // Null when there is none.
  [[nodiscard]] Device* find(std::string_view id) const;
  // In the order they were made.
  void for_each(const std::function<void(const std::string& id, Device& device)>& visit) const;

  // Runs the devices, and those to come.
  void start();
  // Fails what is being opened, and what is to be opened from now on by waiting.
  void give_up_opening() { stopping_.cancel(); }
  // Ends and removes all of them; what is being opened is given up.
  [[nodiscard]] io::Task<void> stop();

 private:
  struct Entry {
    std::string id;
    std::unique_ptr<Device> device;
    io::CancelSource ending;
    io::TaskGroup running;
  };

  [[nodiscard]] io::Task<OpenResult> open(std::string id, const schema::ChardevBackend& backend);
  [[nodiscard]] io::Task<OpenResult> open_kind(std::string id,
                                               const schema::ChardevBackend& backend);
  [[nodiscard]] Entry* find_entry(std::string_view id) const;
  [[nodiscard]] Device* insert(std::string id, std::unique_ptr<Device> device);
  void run(Entry& entry) const;
  [[nodiscard]] static io::Task<void> end(Entry& entry);

  TlsSource tls_;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<std::string> opening_;  // ids that are taken by devices to come
  io::CancelSource stopping_;
  bool started_ = false;
  bool stdio_allowed_ = true;
};

}  // namespace cairn::chardev
