// Session: messages about one queue.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "exports/vhost_user/session.h"

namespace cairn::vhost_user {
namespace {

// Of an event of the kernel's, or a pipe: nothing that could keep this program waiting.
Result<io::Fd> take_event(Message& message) {
  if (message.descriptors.size() != 1) {
    return fail(EPROTO, "message {} brings {} descriptors instead of 1",
                static_cast<uint32_t>(message.kind), message.descriptors.size());
  }
  io::Fd descriptor = std::move(message.descriptors.front());
  message.descriptors.clear();
  struct stat status{};
  if (fstat(descriptor.get(), &status) != 0) {
    return fail_errno(errno, "a descriptor that was passed can not be looked at");
  }
  // What has no place in a file system, as eventfd(2) makes it, has no type either.
  const mode_t type = status.st_mode & S_IFMT;
  if (type != 0 && type != S_IFIFO) {
    return fail(EINVAL, "message {} brings a descriptor that is for no events",
                static_cast<uint32_t>(message.kind));
  }
  const int flags = fcntl(descriptor.get(), F_GETFL);
  fcntl(descriptor.get(), F_SETFL, flags | O_NONBLOCK);
  return descriptor;
}

bool brings_descriptor(MessageKind kind) {
  return kind == MessageKind::kSetVringKick || kind == MessageKind::kSetVringCall ||
         kind == MessageKind::kSetVringErr;
}

}  // namespace

bool Session::is_about_queue(MessageKind kind) {
  switch (kind) {
    case MessageKind::kSetVringNum:
    case MessageKind::kSetVringAddr:
    case MessageKind::kSetVringBase:
    case MessageKind::kGetVringBase:
    case MessageKind::kSetVringKick:
    case MessageKind::kSetVringCall:
    case MessageKind::kSetVringErr:
    case MessageKind::kSetVringEnable:
      return true;
    default:
      return false;
  }
}

Result<Queue*> Session::queue_of(const Message& message) {
  uint32_t index = 0;
  if (message.payload.size() < sizeof index) {
    return fail(EPROTO, "message {} names no queue", static_cast<uint32_t>(message.kind));
  }
  std::memcpy(&index, message.payload.data(), sizeof index);
  if (brings_descriptor(message.kind)) {
    index &= kQueueMask;
  }
  if (index >= device_.settings().queues || index >= kMostQueues) {
    return fail(EPROTO, "message {} is about queue {} of {}", static_cast<uint32_t>(message.kind),
                index, device_.settings().queues);
  }
  std::unique_ptr<Queue>& queue = queues_[index];
  if (queue == nullptr) {
    queue = std::make_unique<Queue>(index, context_);
    track(index, *queue);
  }
  return queue.get();
}

void Session::track(uint32_t index, Queue& queue) const {
  // The kind of ring may have been agreed on after the memory came.
  const uint64_t bytes = inflight_.empty() ? 0 : region_bytes(inflight_area_.queue_size);
  if (bytes == 0 || index >= inflight_area_.queues || inflight_.size() / bytes <= index) {
    queue.set_tracking(nullptr, 0);
    return;
  }
  queue.set_tracking(inflight_.data() + index * bytes, inflight_area_.queue_size);
}

io::Task<Session::Outcome> Session::handle_queue(Message& message) {
  auto found = queue_of(message);
  if (!found) {
    co_return pass(found);
  }
  Queue& queue = **found;
  // Whoever is to be signalled may change while it works, unless it does so on another thread.
  const bool signals =
      message.kind == MessageKind::kSetVringCall || message.kind == MessageKind::kSetVringErr;
  const bool stands = device_.away() || !signals;
  if (stands) {
    co_await queue.stop();
  }
  Outcome outcome = change_queue(message, queue);
  if (stands && outcome && !stopping_.cancelled()) {
    queue.start();
  }
  co_return outcome;
}

Session::Outcome Session::change_queue(Message& message, Queue& queue) {
  if (brings_descriptor(message.kind)) {
    auto payload = message.body<uint64_t>();
    if (!payload) {
      return pass(payload);
    }
    Result<io::Fd> descriptor;
    if ((*payload & kNoDescriptorFlag) == 0) {
      descriptor = take_event(message);
      if (!descriptor) {
        return pass(descriptor);
      }
    }
    if (message.kind == MessageKind::kSetVringKick) {
      queue.set_kick(std::move(*descriptor));
    } else if (message.kind == MessageKind::kSetVringCall) {
      queue.set_call(std::move(*descriptor));
    } else {
      queue.set_error(std::move(*descriptor));
    }
    return Answer{};
  }
  if (message.kind == MessageKind::kSetVringAddr) {
    auto addresses = message.body<VringAddress>();
    if (!addresses) {
      return pass(addresses);
    }
    queue.set_addresses(*addresses);
    return Answer{};
  }
  auto state = message.body<VringState>();
  if (!state) {
    return pass(state);
  }
  switch (message.kind) {
    case MessageKind::kSetVringNum:
      if (auto set = queue.set_size(state->number); !set) {
        return pass(set);
      }
      return Answer{};
    case MessageKind::kSetVringBase:
      queue.set_base(state->number);
      return Answer{};
    case MessageKind::kSetVringEnable:
      queue.set_enabled(state->number != 0);
      return Answer{};
    default: {
      queue.end();
      state->number = queue.base();
      std::vector<std::byte> body(sizeof *state);
      std::memcpy(body.data(), &*state, sizeof *state);
      return Answer{.body = std::move(body)};
    }
  }
}

}  // namespace cairn::vhost_user
