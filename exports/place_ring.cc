#include "exports/place_ring.h"

#include <poll.h>

#include "io/operation.h"
#include "io/timer.h"

namespace cairn::exports {

void PlaceRing::offer(const io::CommandRing::Command& command) {
  ring_->add(command);
  ++offered_;
}

void PlaceRing::answer(const io::CommandRing::Command& command) {
  ring_->add(command);
  if (!taking_) {
    answered_.set();
  }
}

io::Task<void> PlaceRing::run(Serve serve, io::CancelToken stop) {
  submitting_.spawn(submit_answers());
  while (!stop.cancelled() && offered_ > 0) {
    ring_->submit();
    if (take_requests(serve)) {
      co_await io::yield_now();
      continue;
    }
    const io::OperationRequest request{
        .kind = io::OperationRequest::Kind::kPoll, .fd = ring_->descriptor(), .flags = POLLIN};
    const int64_t ready = co_await io::OperationAwaiter(request, stop);
    if (ready < 0) {
      break;
    }
  }
  co_await tasks_.join();
  ended_.cancel();
  co_await submitting_.join();
  ring_->submit();
}

bool PlaceRing::take_requests(const Serve& serve) {
  bool some = false;
  taking_ = true;
  while (const auto completion = ring_->take()) {
    some = true;
    if (completion->result == 0) {
      tasks_.spawn(serve(completion->tag));
    } else {
      --offered_;  // the kernel does not want it any more
    }
  }
  taking_ = false;
  return some;
}

io::Task<void> PlaceRing::submit_answers() {
  while (true) {
    const io::CancelToken ended = ended_.token();
    const bool answered = co_await answered_.wait(ended);
    if (!answered) {
      co_return;
    }
    answered_.reset();
    ring_->submit();
  }
}

}  // namespace cairn::exports
