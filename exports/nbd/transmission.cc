#include "exports/nbd/transmission.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/timer.h"

namespace cairn::nbd {
namespace {

// A batch of replies is sent when it has grown to this, so that the client gets to work.
constexpr std::size_t kFlushReplies = 64;
constexpr uint64_t kFlushBytes = uint64_t{256} * 1024;
// So many requests are taken before other connections get their turn.
constexpr int kRequestsPerTurn = 128;
// Room for replies in the socket: a batch should fit, so that its sending does not wait.
constexpr int kSendBuffer = 1024 * 1024;

// The bytes of memory that a request holds while it is in flight.
uint64_t data_bytes(const Request& request) {
  return request.command == Command::kRead || request.command == Command::kWrite ? request.length
                                                                                 : 0;
}

}  // namespace

Transmission::Transmission(const io::Stream& stream, const NbdExport& chosen, const Terms& terms,
                           Station& station)
    : stream_(stream),
      export_(chosen),
      node_(chosen.access()),
      agreement_(terms.agreement),
      rules_(terms.rules),
      station_(station),
      pool_(station.pool()),
      input_(pool_),
      output_(stream_, pool_) {
  receive_cancel_.emplace();
  output_.set_format(agreement_.extended     ? ReplyQueue::Format::kExtended
                     : agreement_.structured ? ReplyQueue::Format::kStructured
                                             : ReplyQueue::Format::kSimple);
  station_.enter(*this);
}

Transmission::~Transmission() {
  station_.leave(*this);
  assert(requests_.running() == 0 && sender_group_.running() == 0);
}

void Transmission::OnStop::on_cancel() {
  transmission_.stopping_ = true;
  transmission_.end_receiving();
}

// Makes the receiver look up from whatever it waits for.
void Transmission::end_receiving() {
  receive_cancel_->cancel();
  room_.set();
}

bool Transmission::relax() {
  // Requests may have been answered since the receiver began to wait.
  const bool quiet = waiting_ && in_flight_ == 0 && output_.empty();
  const bool idle = quiet && !std::exchange(active_since_relax_, false);
  if (idle && !relaxed_) {
    relaxed_ = true;
    receive_cancel_->cancel();
  }
  return idle;
}

io::Task<void> Transmission::run(io::CancelToken stop) {
  OnStop on_stop(*this);
  on_stop.arm(stop);
  // Best effort: a smaller buffer is only slower.
  (void)setsockopt(stream_.fd(), SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof kSendBuffer);
  sender_group_.spawn(sender());
  bool alive = true;
  while (alive) {
    taking_ = true;
    const Need need = take_requests();
    flush_now();
    taking_ = false;
    switch (need) {
      case Need::kData:
        alive = co_await receive();
        break;
      case Need::kRoom:
        co_await room_.wait();
        break;
      case Need::kTurn:
        co_await io::yield_now();
        break;
      case Need::kPayload:
        alive = co_await receive_payload();
        break;
      case Need::kSkip:
        alive = co_await skip_payload();
        break;
      case Need::kNothing:
      case Need::kEnd:
        alive = false;
        break;
    }
  }
  input_.release();
  co_await requests_.join();
  co_await send_rest();
  sender_cancel_.cancel();
  co_await sender_group_.join();
}

// Takes what has arrived, as far as it goes, and says what has to happen next.
Transmission::Need Transmission::take_requests() {
  const std::size_t header = rules_.extended ? kExtendedRequestSize : kRequestSize;
  for (int left = kRequestsPerTurn; left > 0; --left) {
    if (stopping_ || broken_) {
      return Need::kEnd;
    }
    const std::span<const std::byte> bytes = input_.bytes();
    if (bytes.size() < header) {
      wanted_ = header;
      return Need::kData;
    }
    const std::optional<Request> request = parse_request(bytes, rules_.extended);
    if (!request || request->command == Command::kDisconnect) {
      return Need::kEnd;
    }
    if (const Need need = take_request(*request, header); need != Need::kNothing) {
      return need;
    }
    if (output_.queued() >= kFlushReplies || output_.queued_bytes() >= kFlushBytes) {
      flush_now();
    }
  }
  return Need::kTurn;
}

// Starts the request at the front of the buffer, or says what is missing for that.
Transmission::Need Transmission::take_request(const Request& request, std::size_t header) {
  const std::optional<Refusal> refusal = check_request(request, rules_);
  if (!has_room(refusal ? 0 : data_bytes(request))) {
    room_.reset();
    return Need::kRoom;
  }
  const uint64_t payload = payload_length(request, rules_.extended);
  if (refusal) {
    input_.consume(header);
    ++in_flight_;
    output_.error(request, refusal->error, refusal->message);
    skip_ = payload;
    return payload == 0 ? Need::kNothing : Need::kSkip;
  }
  if (payload > ReceiveBuffer::kMaxInPlace) {
    // Of a write: check_request() bounds all others.
    input_.consume(header);
    pending_ = request;
    return Need::kPayload;
  }
  Payload data;
  if (payload != 0) {
    const std::span<const std::byte> bytes = input_.bytes();
    if (bytes.size() < header + payload) {
      wanted_ = header + payload;
      return Need::kData;
    }
    data.chunk = input_.hold();
    data.bytes = bytes.subspan(header, payload);
  }
  input_.consume(header + payload);
  start(request, std::move(data));
  return Need::kNothing;
}

bool Transmission::has_room(uint64_t bytes) const {
  return in_flight_ < kMaxRequests &&
         (in_flight_bytes_ == 0 || in_flight_bytes_ + bytes <= kMaxBytes);
}

void Transmission::start(const Request& request, Payload payload) {
  ++in_flight_;
  in_flight_bytes_ += data_bytes(request);
  switch (request.command) {
    case Command::kRead:
      return requests_.spawn(do_read(request));
    case Command::kWrite:
      return requests_.spawn(do_write(request, std::move(payload)));
    case Command::kFlush:
      return requests_.spawn(do_flush(request));
    case Command::kTrim:
      return requests_.spawn(do_trim(request));
    case Command::kCache:
      return requests_.spawn(do_cache(request));
    case Command::kWriteZeroes:
      return requests_.spawn(do_write_zeroes(request));
    case Command::kBlockStatus:
      return start_block_status(request, payload);
    case Command::kDisconnect:
      break;
  }
  assert(false && "check_request() lets no other command through");
}

// Waits for the client's next bytes, so that wanted_ of them can be in one piece. False at the end
// of the stream.
io::Task<bool> Transmission::receive() {
  for (;;) {
    const std::span<std::byte> memory = input_.prepare(wanted_);
    if (memory.empty()) {
      co_return false;  // no memory even for this: the others are better off without the client
    }
    waiting_ = input_.bytes().empty();
    const int64_t got = co_await receive_into(memory, 0);
    waiting_ = false;
    if (got > 0) {
      active_since_relax_ = true;
      input_.received(static_cast<std::size_t>(got));
      co_return true;
    }
    if (got != -ECANCELED || !relaxed_ || stopping_) {
      co_return false;
    }
    // relax(): wait on without memory.
    input_.release();
    stream_.release_buffers();
    receive_cancel_.emplace();
    const io::OperationRequest poll{
        .kind = io::OperationRequest::Kind::kPoll, .fd = stream_.fd(), .flags = POLLIN};
    waiting_ = true;
    const int64_t ready = co_await io::OperationAwaiter(poll, receive_cancel_->token());
    waiting_ = false;
    relaxed_ = false;
    if (ready < 0) {
      co_return false;
    }
  }
}

io::Task<int64_t> Transmission::receive_into(std::span<std::byte> memory, uint32_t flags) {
  if (stream_.tls() != nullptr) {
    auto reading = stream_.read_some(memory, receive_cancel_->token());
    const Result<std::size_t> got = co_await reading;
    co_return got ? static_cast<int64_t>(*got) : -int64_t{got.error().code()};
  }
  const io::OperationRequest request{.kind = io::OperationRequest::Kind::kReceive,
                                     .fd = stream_.fd(),
                                     .flags = flags,
                                     .length = memory.size(),
                                     .buffer = memory.data()};
  const int64_t got = co_await io::OperationAwaiter(request, receive_cancel_->token());
  co_return got;
}

// The data of a large write: what has arrived is moved, the rest goes straight to its place.
io::Task<bool> Transmission::receive_payload() {
  const Request request = pending_;
  Payload payload;
  payload.buffer = pool_.take(request.length);
  if (!payload.buffer.valid()) {
    ++in_flight_;
    output_.error(request, WireError::kNoMemory, "out of memory");
    skip_ = request.length;
    const bool skipped = co_await skip_payload();
    co_return skipped;
  }
  const std::span<const std::byte> here = input_.bytes();
  std::size_t filled = std::min<std::size_t>(here.size(), request.length);
  std::memcpy(payload.buffer.data(), here.data(), filled);
  input_.consume(filled);
  input_.swallowed(filled);
  while (filled < request.length) {
    const std::span<std::byte> rest(payload.buffer.data() + filled, request.length - filled);
    const int64_t got = co_await receive_into(rest, MSG_WAITALL);
    if (got <= 0) {
      co_return false;
    }
    filled += static_cast<std::size_t>(got);
  }
  active_since_relax_ = true;
  payload.bytes = {payload.buffer.data(), request.length};
  taking_ = true;  // the receiver goes on with take_requests(), which sends the reply
  start(request, std::move(payload));
  co_return true;
}

// Reads skip_ bytes and forgets them.
io::Task<bool> Transmission::skip_payload() {
  while (skip_ > 0) {
    if (input_.bytes().empty()) {
      wanted_ = 1;
      const bool received = co_await receive();
      if (!received) {
        co_return false;
      }
    }
    const uint64_t piece = std::min<uint64_t>(skip_, input_.bytes().size());
    input_.consume(piece);
    skip_ -= piece;
  }
  co_return true;
}

// Called when something was queued for the client.
void Transmission::replied() {
  if (broken_) {
    release(output_.drop());
  } else if (!taking_) {
    send_wanted_.set();
  }
}

void Transmission::flush_now() {
  if (blocked_ || output_.empty()) {
    return;
  }
  const ReplyQueue::Flushed flushed = output_.flush();
  release(flushed);
  if (flushed.outcome == ReplyQueue::Outcome::kBlocked) {
    blocked_ = true;
    send_wanted_.set();
  } else if (flushed.outcome == ReplyQueue::Outcome::kBroken) {
    broken_ = true;
    release(output_.drop());
    end_receiving();
  }
}

void Transmission::release(const ReplyQueue::Flushed& flushed) {
  assert(in_flight_ >= flushed.requests && in_flight_bytes_ >= flushed.bytes);
  in_flight_ -= flushed.requests;
  in_flight_bytes_ -= flushed.bytes;
  room_.set();
}

// Sends what tasks queue while the receiver waits: once a turn of the reactor, since it becomes
// ready after all the requests that completed in the same turn.
io::Task<void> Transmission::sender() {
  for (;;) {
    const bool wanted = co_await send_wanted_.wait(sender_cancel_.token());
    if (!wanted) {
      co_return;
    }
    send_wanted_.reset();
    if (blocked_) {
      const io::OperationRequest poll{
          .kind = io::OperationRequest::Kind::kPoll, .fd = stream_.fd(), .flags = POLLOUT};
      const int64_t ready = co_await io::OperationAwaiter(poll, sender_cancel_.token());
      if (ready == -ECANCELED) {
        co_return;
      }
      blocked_ = false;
    }
    flush_now();
  }
}

// The last replies, when there will be no more. A client that does not fetch them loses them.
io::Task<void> Transmission::send_rest() {
  const io::Deadline deadline(sender_cancel_, kLinger);
  flush_now();
  while (!output_.empty() && !broken_) {
    room_.reset();
    const bool moved = co_await room_.wait(sender_cancel_.token());
    if (!moved) {
      co_return;
    }
  }
}

}  // namespace cairn::nbd
