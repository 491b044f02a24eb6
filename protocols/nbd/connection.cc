#include "protocols/nbd/connection.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "io/timer.h"

namespace cairn::nbd::client {

io::Task<Result<std::shared_ptr<Connection>>> Connection::open(Target target,
                                                               io::CancelToken token) {
  auto connecting = io::Stream::connect(target.address, token);
  Result<io::Stream> stream = co_await std::move(connecting);
  if (!stream) {
    co_return pass(stream);
  }
  Negotiation negotiation(*stream, token);
  auto greeting = negotiation.greet(std::move(target.tls));
  Result<void> greeted = co_await std::move(greeting);
  if (!greeted) {
    co_return pass(greeted);
  }
  auto choosing = negotiation.go(std::move(target.export_name), std::move(target.context));
  Result<ExportInfo> info = co_await std::move(choosing);
  if (!info) {
    co_return pass(info);
  }
  co_return std::make_shared<Connection>(std::move(*stream), std::move(*info));
}

Connection::Connection(io::Stream stream, ExportInfo info)
    : stream_(std::move(stream)), info_(std::move(info)), receiver_(stream_) {}

io::Task<void> Connection::run(Exchange& exchange) {
  ++load_;
  if (!started_) {
    started_ = true;
    tasks_.spawn(receive_all());
  }
  auto acquiring = places_.acquire();
  const auto place = co_await acquiring;
  if (alive_) {
    send(exchange);
    co_await exchange.done.wait();
  } else {
    exchange.lost = true;
  }
  --load_;
}

void Connection::send(Exchange& exchange) {
  const auto free = std::ranges::find(slots_, nullptr);
  assert(free != slots_.end());
  *free = &exchange;
  ++in_flight_;
  exchange.cookie = ++generation_ * kMaxInFlight + static_cast<uint64_t>(free - slots_.begin());
  exchange.sending = true;
  queue_.push_back(&exchange);
  if (!sending_) {
    sending_ = true;
    tasks_.spawn(send_queued());
  }
}

// "Request message"
void Connection::encode(const Exchange& exchange, Header& header) const {
  std::byte* bytes = header.data();
  uint16_t flags = exchange.flags;
  if (info_.extended && exchange.command == Command::kWrite) {
    flags |= kFlagPayloadLength;
  }
  store_be(bytes, info_.extended ? kExtendedRequestMagic : kRequestMagic);
  store_be(bytes + 4, flags);
  store_be(bytes + 6, static_cast<uint16_t>(exchange.command));
  store_be(bytes + 8, exchange.cookie);
  store_be(bytes + 16, exchange.offset);
  if (info_.extended) {
    store_be(bytes + 24, exchange.length);
  } else {
    store_be(bytes + 24, static_cast<uint32_t>(exchange.length));
  }
}

io::Task<void> Connection::send_queued() {
  std::vector<Exchange*> batch;
  std::vector<Header> headers;
  while (!queue_.empty()) {
    if (in_flight_ > 1 && alive_) {
      // What else is asked for in this turn goes out with the same system call.
      co_await io::yield_now();
    }
    batch.clear();
    batch.swap(queue_);
    if (alive_) {
      headers.resize(batch.size());
      io::IoVector message;
      const std::size_t header_size = info_.extended ? kExtendedRequestSize : kRequestSize;
      for (std::size_t i = 0; i < batch.size(); ++i) {
        encode(*batch[i], headers[i]);
        message.append(headers[i].data(), header_size);
        if (batch[i]->command == Command::kWrite) {
          message.append(batch[i]->data);
        }
      }
      auto writing = stream_.write_all(std::move(message));
      const Result<void> written = co_await std::move(writing);
      if (!written) {
        break_off(written.error());
      }
    }
    for (Exchange* exchange : batch) {
      sent(*exchange);
    }
  }
  sending_ = false;
}

void Connection::sent(Exchange& exchange) {
  exchange.sending = false;
  if (exchange.replied) {
    exchange.done.set();
  }
}

void Connection::finish(Exchange& exchange) {
  slots_[exchange.cookie % kMaxInFlight] = nullptr;
  --in_flight_;
  exchange.replied = true;
  if (!exchange.sending) {
    exchange.done.set();
  }
}

// What is in flight is told by receive_all() once it has stopped touching it.
void Connection::break_off(const Error& why) {
  if (alive_) {
    alive_ = false;
    reason_ = why.message();
    stream_.shutdown(SHUT_RDWR);
  }
}

io::Task<void> Connection::close() {
  if (alive_ && in_flight_ == 0 && !sending_) {
    Header header{};
    const Exchange farewell(Command::kDisconnect, 0, 0);
    encode(farewell, header);
    io::IoVector bytes(header.data(), info_.extended ? kExtendedRequestSize : kRequestSize);
    auto writing = stream_.write_all(std::move(bytes));
    // A server that does not take it any more is left all the same.
    [[maybe_unused]] const Result<void> written = co_await std::move(writing);
    stream_.say_goodbye();
  }
  break_off(Error(ESHUTDOWN, "The connection was closed"));
  auto joining = tasks_.join();
  co_await std::move(joining);
}

}  // namespace cairn::nbd::client
