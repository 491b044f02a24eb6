// RequestScope: a request in flight at one node. While it lives the node's epoch is pinned (space
// that the request may have translated to is not reused) and drains wait for it.
#pragma once

#include <utility>

#include "block/node.h"

namespace cairn::block {

class RequestScope {
 public:
  explicit RequestScope(Node& node) : node_(&node), pin_(node.epochs_) { ++node.in_flight_; }
  RequestScope(const RequestScope&) = delete;
  RequestScope& operator=(const RequestScope&) = delete;
  ~RequestScope() {
    pin_.release();
    if (--node_->in_flight_ == 0) {
      node_->in_flight_waiters_.wake_all();
    }
  }

 private:
  Node* node_;
  EpochTracker::Pin pin_;
};

}  // namespace cairn::block
