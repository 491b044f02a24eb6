// Reading, answering and writing are three tasks: requests out of band are read while another one
// is at work, and events go out while the reader waits for the client. The writer takes all that
// has piled up at once.
#include "monitor/session.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <span>
#include <utility>

#include "io/task_group.h"
#include "io/timer.h"
#include "monitor/dispatch.h"
#include "monitor/version.h"
#include "schema/commands.h"

namespace cairn::monitor {

namespace {

constexpr size_t kReadBytes = 4096;
// With out-of-band requests: so many others may wait for their turn (docs/interop/qmp-spec.rst
// tells clients to keep below that), and so many bytes of them.
constexpr size_t kMostAhead = 8;
constexpr size_t kMostAheadBytes = size_t{64} << 10;
// Above this no more requests are taken until the client has read its replies.
constexpr size_t kOutboxFull = size_t{256} << 10;
// Events above this end the session: better a visible end than events that are silently missing.
constexpr size_t kOutboxLimit = size_t{8} << 20;
// Nobody who means to talk to us sends so much that is no request, and nothing else.
constexpr int kMostFaults = 1000;
// How long a client that does not read may delay the end of the program.
constexpr std::chrono::milliseconds kFarewell(2000);

std::string_view class_name(ErrorClass error_class) {
  switch (error_class) {
    case ErrorClass::kCommandNotFound:
      return "CommandNotFound";
    case ErrorClass::kDeviceNotActive:
      return "DeviceNotActive";
    case ErrorClass::kDeviceNotFound:
      return "DeviceNotFound";
    case ErrorClass::kKvmMissingCap:
      return "KVMMissingCap";
    case ErrorClass::kGenericError:
      break;
  }
  return "GenericError";
}

schema::JsonValue greeting() {
  schema::JsonObject inner;
  inner.add("version", to_json(version_info()));
  inner.add("capabilities", schema::JsonArray{to_json(schema::QMPCapability::kOob)});
  schema::JsonObject outer;
  outer.add("QMP", std::move(inner));
  return outer;
}

schema::JsonValue reply(Result<schema::JsonValue> result, std::optional<schema::JsonValue> id) {
  schema::JsonObject message;
  if (result) {
    message.add("return", std::move(*result));
  } else {
    schema::JsonObject error;
    error.add("class", class_name(result.error().error_class()));
    error.add("desc", result.error().message());
    message.add("error", std::move(error));
  }
  if (id) {
    message.add("id", std::move(*id));
  }
  return message;
}

std::unexpected<Error> not_found(std::string message) {
  return std::unexpected(Error(ENOENT, std::move(message), ErrorClass::kCommandNotFound));
}

}  // namespace

Session::Session(Services& services, chardev::Connection& connection, bool pretty)
    : services_(services), connection_(connection), pretty_(pretty) {}

Session::~Session() { services_.events.remove(*this); }

io::Task<void> Session::run(io::CancelToken token) {
  send(greeting());
  io::TaskGroup writer;
  writer.spawn(write_replies());
  io::TaskGroup answering;
  answering.spawn(answer_requests());
  co_await read_requests(token);
  no_more_requests_ = true;
  arrived_.set();
  co_await answering.join();
  services_.events.remove(*this);
  closing_ = true;
  work_.set();
  {
    const io::Deadline farewell(writing_, kFarewell);
    co_await writer.join();
  }
  connection_.shutdown();
}

io::Task<void> Session::read_requests(io::CancelToken token) {
  // Three things end the reading: the owner, a client that can not be written to any more, and the
  // last answer that is to be given.
  class Relay final : public io::CancelHook {
   public:
    Relay(io::CancelSource& source, io::CancelToken token) : source_(source) { arm(token); }
    ~Relay() override = default;

   private:
    void on_cancel() override { source_.cancel(); }
    io::CancelSource& source_;
  };
  const Relay relay(reading_, token);
  std::array<std::byte, kReadBytes> buffer;
  while (!finished() && !reading_.cancelled()) {
    const Result<size_t> count = co_await connection_.read_some(buffer, reading_.token());
    if (!count || *count == 0) {
      break;
    }
    const std::string_view input(reinterpret_cast<const char*>(buffer.data()), *count);
    const bool more = co_await take_input(input);
    if (!more) {
      break;
    }
  }
}

// Finds requests in `input`. False when there is nobody any more to answer to.
io::Task<bool> Session::take_input(std::string_view input) {
  while (!finished()) {
    const size_t before = input.size();
    std::optional<Result<schema::JsonValue>> item = stream_.next(input);
    stream_bytes_ += before - input.size();
    if (!item) {
      co_return true;
    }
    const size_t bytes = std::max<size_t>(std::exchange(stream_bytes_, 0), 1);
    if (is_out_of_band(*item)) {
      co_await answer(std::move(*item));
    } else {
      ahead_.push_back({std::move(*item), bytes});
      ahead_bytes_ += bytes;
      arrived_.set();
    }
    if (!may_read_ahead()) {
      may_read_.reset();
    }
    bool going_on = co_await may_read_.wait(reading_.token());
    if (going_on) {
      going_on = co_await room_.wait(reading_.token());
    }
    if (!going_on) {
      break;
    }
  }
  co_return false;
}

io::Task<void> Session::answer_requests() {
  while (!finished() && !reading_.cancelled() && faults_in_a_row_ <= kMostFaults) {
    if (ahead_.empty()) {
      if (no_more_requests_) {
        break;
      }
      arrived_.reset();
      co_await arrived_.wait();
      continue;
    }
    const bool room = co_await room_.wait(reading_.token());
    if (!room) {
      break;
    }
    Pending next = std::move(ahead_.front());
    ahead_.pop_front();
    co_await answer(std::move(next.item));
    ahead_bytes_ -= next.bytes;
    if (may_read_ahead()) {
      may_read_.set();
    }
  }
  // Whatever was read ahead is answered by nobody.
  reading_.cancel();
}

// Without out-of-band requests nothing is read while one is at work.
bool Session::may_read_ahead() const {
  return ahead_bytes_ == 0 ||
         (oob_enabled_ && ahead_.size() < kMostAhead && ahead_bytes_ < kMostAheadBytes);
}

bool Session::is_out_of_band(const Result<schema::JsonValue>& item) const {
  const schema::JsonObject* object = oob_enabled_ && item ? item->as_object() : nullptr;
  return object && object->find("exec-oob") && !object->find("execute");
}

io::Task<void> Session::write_replies() {
  while (!failed_ && (!closing_ || !outbox_.empty())) {
    work_.reset();
    if (outbox_.empty()) {
      co_await work_.wait();
      continue;
    }
    const std::string sending = std::exchange(outbox_, {});
    room_.set();
    const Result<void> written = co_await connection_.write_all(sending, writing_.token());
    if (!written) {
      failed_ = true;
    }
  }
  room_.set();
  if (failed_) {
    reading_.cancel();
  }
}

io::Task<void> Session::answer(Result<schema::JsonValue> item) {
  std::optional<schema::JsonValue> id;
  Result<schema::JsonValue> result = std::move(item);
  ++faults_in_a_row_;
  if (result) {
    if (services_.trace.commands) {
      trace("qmp_command", schema::to_text(*result));
    }
    id = take_id(*result);
    Result<Request> request = parse_request(std::move(*result), oob_enabled_);
    if (request) {
      faults_in_a_row_ = 0;
      result = co_await execute(std::move(*request));
    } else {
      result = pass(request);
    }
  }
  const schema::JsonValue message = reply(std::move(result), std::move(id));
  if (services_.trace.replies) {
    trace("qmp_reply", schema::to_text(message));
  }
  send(message);
}

io::Task<Result<schema::JsonValue>> Session::execute(Request request) {
  if (!negotiated_) {
    if (request.command == schema::commands::QmpCapabilities::kName) {
      co_return negotiate(request.arguments);
    }
    co_return not_found("Expecting capabilities negotiation with 'qmp_capabilities'");
  }
  const CommandEntry* command = find_command(request.command);
  if (!command) {
    co_return not_found(fmt::format("The command {} has not been found", request.command));
  }
  if (request.out_of_band && !command->allow_oob) {
    co_return fail(EINVAL, "The command {} does not support OOB", request.command);
  }
  auto task = command->run(services_, std::move(request.arguments));
  Result<schema::JsonValue> result = co_await std::move(task);
  co_return result;
}

Result<schema::JsonValue> Session::negotiate(const schema::JsonValue& arguments) {
  auto decoded = schema::decode<schema::QmpCapabilitiesArguments>(arguments);
  if (!decoded) {
    return pass(decoded);
  }
  // There is one capability, so that it is enabled when anything is.
  oob_enabled_ = decoded->enable && !decoded->enable->empty();
  negotiated_ = true;
  services_.events.add(*this);
  return schema::JsonValue(schema::JsonObject());
}

void Session::on_event(const schema::JsonValue& message) {
  if (services_.trace.events) {
    trace("qmp_event", schema::to_text(message));
  }
  send(message);
  if (outbox_.size() > kOutboxLimit) {
    failed_ = true;
    outbox_ = std::string();
    writing_.cancel();
    reading_.cancel();
  }
}

// Lines end in CR LF, as the specification asks for. Who has been given up is sent nothing more: a
// command that is still at work for it may last.
void Session::send(const schema::JsonValue& message) {
  if (failed_) {
    return;
  }
  const auto layout = pretty_ ? schema::JsonLayout::kPretty : schema::JsonLayout::kLine;
  const std::string text = schema::to_text(message, layout);
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    outbox_ += line;
    outbox_ += "\r\n";
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  if (outbox_.size() >= kOutboxFull) {
    room_.reset();
  }
  work_.set();
}

void Session::trace(std::string_view what, std::string_view text) const {
  fmt::print(stderr, "{} monitor={} {}\n", what, static_cast<const void*>(this), text);
}

}  // namespace cairn::monitor
