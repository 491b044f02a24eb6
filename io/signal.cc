#include "io/signal.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include "io/operation.h"

namespace cairn::io {

Result<SignalWatcher> SignalWatcher::create(std::span<const int> signals) {
  sigset_t watched;
  sigemptyset(&watched);
  for (const int signal : signals) {
    sigaddset(&watched, signal);
  }
  Fd fd(signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) {
    return fail_errno(errno, "Could not watch signals");
  }
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, &watched, &before);
  return SignalWatcher(std::move(fd), before);
}

SignalWatcher::~SignalWatcher() {
  if (fd_.valid()) {
    pthread_sigmask(SIG_SETMASK, &blocked_before_, nullptr);
  }
}

Task<Result<int>> SignalWatcher::next(CancelToken token) const {
  for (;;) {
    signalfd_siginfo info{};
    const ssize_t count = read(fd_.get(), &info, sizeof info);
    if (count == sizeof info) {
      co_return static_cast<int>(info.ssi_signo);
    }
    if (errno != EAGAIN && errno != EINTR) {
      co_return fail_errno(errno, "Could not read a signal");
    }
    const OperationRequest request{
        .kind = OperationRequest::Kind::kPoll, .fd = fd_.get(), .flags = POLLIN};
    OperationAwaiter poll(request, token);
    const int64_t ready = co_await poll;
    if (ready < 0) {
      co_return std::unexpected(Error::from_errno(static_cast<int>(-ready)));
    }
  }
}

}  // namespace cairn::io
