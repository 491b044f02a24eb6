// Opening may wait, so that the id of a device to come is taken before it is there, and everything
// is looked up again afterwards.
#include "chardev/registry.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <variant>

namespace cairn::chardev {

namespace {

using Backend = schema::ChardevBackendKind;

template <typename Wrapper>
const auto& data_of(const schema::ChardevBackend& backend) {
  return std::get<Wrapper>(backend.branch).data;
}

const schema::ChardevCommon& common_of(const schema::ChardevBackend& backend) {
  return std::visit(
      [](const auto& branch) -> const schema::ChardevCommon& {
        if constexpr (requires { branch.data; }) {
          return branch.data;
        } else {
          static const schema::ChardevCommon kNothing;
          return kNothing;
        }
      },
      backend.branch);
}

}  // namespace

io::Task<OpenResult> Registry::open_kind(std::string id, const schema::ChardevBackend& backend) {
  switch (backend.type) {
    case Backend::kFile:
      co_return open_file(data_of<schema::ChardevFileWrapper>(backend));
    case Backend::kPipe:
      co_return open_pipe(data_of<schema::ChardevHostdevWrapper>(backend));
    case Backend::kPty:
      co_return open_pty(data_of<schema::ChardevPtyWrapper>(backend));
    case Backend::kNull:
      co_return open_null();
    case Backend::kRingbuf:
    case Backend::kMemory:
      co_return open_ringbuf(data_of<schema::ChardevRingbufWrapper>(backend), backend.type);
    case Backend::kStdio:
      for (const auto& entry : entries_) {
        if (entry->device->kind() == Backend::kStdio) {
          co_return fail(EBUSY, "cannot use stdio by multiple character devices");
        }
      }
      if (!stdio_allowed_) {
        co_return fail(EINVAL, "cannot use stdio with -daemonize");
      }
      co_return open_stdio(data_of<schema::ChardevStdioWrapper>(backend));
    case Backend::kSocket:
      break;
  }
  schema::ChardevSocket options = data_of<schema::ChardevSocketWrapper>(backend);
  auto opening = open_socket(std::move(options), std::move(id), tls_, stopping_.token());
  OpenResult opened = co_await std::move(opening);
  co_return opened;
}

io::Task<OpenResult> Registry::open(std::string id, const schema::ChardevBackend& backend) {
  std::optional<Log> log;
  const schema::ChardevCommon& common = common_of(backend);
  if (common.logfile) {
    auto opened = Log::open(common);
    if (!opened) {
      co_return pass(opened);
    }
    log = std::move(*opened);
  }
  opening_.push_back(id);
  auto opening = open_kind(id, backend);
  OpenResult device = co_await std::move(opening);
  std::erase(opening_, id);
  if (device && log) {
    (*device)->set_log(std::move(*log));
  }
  co_return device;
}

io::Task<Result<Device*>> Registry::add(std::string id, const schema::ChardevBackend& backend) {
  if (find(id) || std::ranges::find(opening_, id) != opening_.end()) {
    co_return fail(EEXIST, "");
  }
  auto opening = open(id, backend);
  OpenResult device = co_await std::move(opening);
  if (!device) {
    co_return pass(device);
  }
  co_return insert(std::move(id), std::move(*device));
}

io::Task<Result<Device*>> Registry::change(std::string id, const schema::ChardevBackend& backend) {
  const auto check = [&]() -> Result<void> {
    const Entry* entry = find_entry(id);
    if (!entry || std::ranges::find(opening_, id) != opening_.end()) {
      return fail(ENOENT, "Chardev '{}' does not exist", id);
    }
    if (entry->device->in_use()) {
      return fail(EBUSY, "Chardev user does not support chardev hotswap");
    }
    return {};
  };
  auto checked = check();
  if (!checked) {
    co_return pass(checked);
  }
  auto opening = open(id, backend);
  OpenResult device = co_await std::move(opening);
  if (!device) {
    co_return pass(device, "Failed to add chardev '" + id + "': ");
  }
  checked = check();
  if (!checked) {
    co_return pass(checked);
  }
  Result<void> removed = co_await remove(id);
  if (!removed) {
    co_return pass(removed);
  }
  co_return insert(std::move(id), std::move(*device));
}

io::Task<Result<void>> Registry::remove(std::string id) {
  if (stopping_.cancelled()) {
    co_return fail(ECANCELED, "Chardev '{}' ends with the program", id);
  }
  const auto at = std::ranges::find(entries_, id, [](const auto& entry) { return entry->id; });
  if (at == entries_.end()) {
    co_return fail(ENOENT, "Chardev '{}' not found", id);
  }
  if ((*at)->device->in_use()) {
    co_return fail(EBUSY, "Chardev '{}' is busy", id);
  }
  const std::unique_ptr<Entry> entry = std::move(*at);
  entries_.erase(at);
  co_await end(*entry);
  co_return Result<void>();
}

Registry::Entry* Registry::find_entry(std::string_view id) const {
  const auto at = std::ranges::find(entries_, id, [](const auto& entry) { return entry->id; });
  return at == entries_.end() ? nullptr : at->get();
}

Device* Registry::find(std::string_view id) const {
  const Entry* entry = find_entry(id);
  return entry ? entry->device.get() : nullptr;
}

void Registry::for_each(
    const std::function<void(const std::string& id, Device& device)>& visit) const {
  for (const auto& entry : entries_) {
    visit(entry->id, *entry->device);
  }
}

Device* Registry::insert(std::string id, std::unique_ptr<Device> device) {
  auto entry = std::make_unique<Entry>();
  entry->id = std::move(id);
  entry->device = std::move(device);
  Entry& added = *entries_.emplace_back(std::move(entry));
  if (started_) {
    run(added);
  }
  return added.device.get();
}

void Registry::run(Entry& entry) const {
  entry.running.spawn(entry.device->run(entry.ending.token()));
}

void Registry::start() {
  started_ = true;
  for (const auto& entry : entries_) {
    run(*entry);
  }
}

io::Task<void> Registry::end(Entry& entry) {
  entry.ending.cancel();
  co_await entry.running.join();
}

io::Task<void> Registry::stop() {
  stopping_.cancel();
  started_ = false;
  for (const auto& entry : entries_) {
    entry->ending.cancel();
  }
  // Commands that are still at work may add devices, which do not run.
  for (size_t i = 0; i < entries_.size(); ++i) {
    co_await end(*entries_[i]);
  }
  entries_.clear();
}

}  // namespace cairn::chardev
