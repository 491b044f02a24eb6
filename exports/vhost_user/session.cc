#include "exports/vhost_user/session.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace cairn::vhost_user {

Session::Session(io::Stream stream, BlockDevice& device)
    : socket_(std::move(stream)),
      device_(device),
      context_{.device = device, .memory = memory_, .on_broken = [this](const Error& error) {
                 broken_ = error;
                 stopping_.cancel();
               }} {
  device_.set_features(0);
}

io::Task<Result<void>> Session::run() {
  Result<void> result = co_await converse();
  co_await stop_queues();
  queues_.clear();
  if (broken_) {
    co_return std::unexpected(*broken_);
  }
  co_return stopping_.cancelled() ? Result<void>() : std::move(result);
}

io::Task<Result<void>> Session::converse() {
  for (;;) {
    auto receiving = socket_.receive(stopping_.token());
    auto message = co_await std::move(receiving);
    if (!message) {
      co_return pass(message);
    }
    if (!message->has_value()) {
      co_return Result<void>();
    }
    auto handling = handle(**message);
    Outcome outcome = co_await std::move(handling);
    auto answering = answer(**message, std::move(outcome));
    Result<void> answered = co_await std::move(answering);
    if (!answered) {
      co_return answered;
    }
  }
}

// What can not be done ends the session, after the front-end has been told when it wants to be.
io::Task<Result<void>> Session::answer(const Message& message, Outcome outcome) {
  std::vector<std::byte> body;
  const bool always = outcome && outcome->body;
  if (always) {
    body = std::move(*outcome->body);
  } else if (message.wants_reply && agreed(ProtocolFeature::kReplyAck)) {
    const uint64_t code = outcome && !outcome->refused ? 0 : 1;
    body.resize(sizeof code);
    std::memcpy(body.data(), &code, sizeof code);
  }
  Result<void> sent;
  if (always || !body.empty()) {
    const int descriptor = outcome ? outcome->descriptor.get() : -1;
    auto replying = socket_.reply(message.kind, std::move(body), stopping_.token(), descriptor);
    sent = co_await std::move(replying);
  }
  if (!outcome) {
    co_return pass(outcome);
  }
  co_return sent;
}

io::Task<Session::Outcome> Session::handle(Message& message) {
  if (is_query(message.kind)) {
    co_return handle_query(message);
  }
  if (is_about_queue(message.kind)) {
    auto handling = handle_queue(message);
    co_return co_await std::move(handling);
  }
  co_await stop_queues();
  Outcome outcome = change_device(message);
  if (outcome) {
    update_context();
    start_queues();
  }
  co_return outcome;
}

io::Task<void> Session::stop_queues() {
  for (const auto& [index, queue] : queues_) {
    co_await queue->stop();
  }
}

void Session::start_queues() {
  if (stopping_.cancelled()) {
    return;
  }
  for (const auto& [index, queue] : queues_) {
    queue->start();
  }
}

void Session::announce_config_change() {
  if (!frontend_requests_.valid() || !agreed(ProtocolFeature::kConfig)) {
    return;
  }
  MessageHeader header{.kind = kBackendConfigChange, .flags = kVersion, .size = 0};
  // It does not wait. There is no room only while the front-end has not read earlier ones, and when
  // it does it finds the newest configuration.
  [[maybe_unused]] const ssize_t sent =
      send(frontend_requests_.get(), &header, sizeof header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace cairn::vhost_user
