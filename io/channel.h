// Channel<T>: a bounded queue between coroutines of one reactor, with any number of senders and
// receivers, served in order of arrival.
//
// A value goes straight to a receiver that waits. With capacity 0 every push waits for its pop.
// After close() pushes fail; values that were accepted can still be popped.
#pragma once

#include <cassert>
#include <coroutine>
#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "io/waiter.h"

namespace cairn::io {

template <typename T>
class Channel {
 public:
  explicit Channel(std::size_t capacity) : capacity_(capacity) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() { assert(senders_.empty() && receivers_.empty()); }

  class PushAwaiter : private Waiter {
   public:
    PushAwaiter(Channel& channel, T value) : channel_(channel), value_(std::move(value)) {}
    [[nodiscard]] bool await_ready() {
      if (channel_.closed_) {
        return true;
      }
      accepted_ = channel_.accept(value_);
      return accepted_;
    }
    void await_suspend(std::coroutine_handle<> handle) {
      bind(handle);
      channel_.senders_.push(*this);
    }
    bool await_resume() { return accepted_; }

   private:
    friend class Channel;
    Channel& channel_;
    T value_;
    bool accepted_ = false;
  };

  class PopAwaiter : private Waiter {
   public:
    explicit PopAwaiter(Channel& channel) : channel_(channel) {}
    [[nodiscard]] bool await_ready() {
      value_ = channel_.try_pop();
      return value_.has_value() || channel_.closed_;
    }
    void await_suspend(std::coroutine_handle<> handle) {
      bind(handle);
      channel_.receivers_.push(*this);
    }
    std::optional<T> await_resume() { return std::move(value_); }

   private:
    friend class Channel;
    Channel& channel_;
    std::optional<T> value_;
  };

  // `co_await channel.push(value)`: waits for room; false (and the value is gone) when the channel
  // is closed or closes meanwhile.
  [[nodiscard]] PushAwaiter push(T value) { return PushAwaiter(*this, std::move(value)); }

  // `co_await channel.pop()`: waits for a value; nothing when the channel is closed and empty.
  [[nodiscard]] PopAwaiter pop() { return PopAwaiter(*this); }

  // False, leaving `value` as it is, when the channel is full or closed.
  [[nodiscard]] bool try_push(T& value) { return !closed_ && accept(value); }

  [[nodiscard]] std::optional<T> try_pop() {
    std::optional<T> value;
    if (!values_.empty()) {
      value.emplace(std::move(values_.front()));
      values_.pop_front();
      if (PushAwaiter* sender = pop_sender()) {
        values_.push_back(std::move(sender->value_));
      }
    } else if (PushAwaiter* sender = pop_sender()) {
      value.emplace(std::move(sender->value_));
    }
    return value;
  }

  void close() {
    closed_ = true;
    senders_.wake_all();
    receivers_.wake_all();
  }

  [[nodiscard]] bool closed() const { return closed_; }
  // How many values were accepted and not yet popped.
  [[nodiscard]] std::size_t size() const { return values_.size(); }

 private:
  // Takes the value when a receiver waits or there is room.
  bool accept(T& value) {
    if (Waiter* waiter = receivers_.pop()) {
      static_cast<PopAwaiter*>(waiter)->value_.emplace(std::move(value));
      waiter->wake();
      return true;
    }
    if (values_.size() >= capacity_) {
      return false;
    }
    values_.push_back(std::move(value));
    return true;
  }

  // The oldest sender that waits, woken with success; its value is still to be taken.
  PushAwaiter* pop_sender() {
    auto* sender = static_cast<PushAwaiter*>(senders_.pop());
    if (sender != nullptr) {
      sender->accepted_ = true;
      sender->wake();
    }
    return sender;
  }

  std::size_t capacity_;
  std::deque<T> values_;
  WaiterList senders_;
  WaiterList receivers_;
  bool closed_ = false;
};

}  // namespace cairn::io
