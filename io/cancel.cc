#include "io/cancel.h"

#include <cassert>

namespace cairn::io {

bool CancelToken::cancelled() const { return source_ != nullptr && source_->cancelled(); }

void CancelHook::arm(CancelToken token) {
  assert(source_ == nullptr);
  if (token.source_ == nullptr) {
    return;
  }
  if (token.source_->cancelled_) {
    on_cancel();
    return;
  }
  source_ = token.source_;
  previous_ = nullptr;
  next_ = source_->hooks_;
  if (next_ != nullptr) {
    next_->previous_ = this;
  }
  source_->hooks_ = this;
}

void CancelHook::disarm() {
  if (source_ == nullptr) {
    return;
  }
  (previous_ != nullptr ? previous_->next_ : source_->hooks_) = next_;
  if (next_ != nullptr) {
    next_->previous_ = previous_;
  }
  source_ = nullptr;
}

CancelSource::~CancelSource() { assert(hooks_ == nullptr && "a token outlives its source"); }

void CancelSource::cancel() {
  cancelled_ = true;
  while (hooks_ != nullptr) {
    CancelHook& hook = *hooks_;
    hook.disarm();
    hook.on_cancel();
  }
}

}  // namespace cairn::io
