// Cancellation: a source that is cancelled once, and tokens of it that are passed down.
//
// A token is a non-owning reference; the source outlives all its tokens (it lives in the object
// that owns the work). An empty token is never cancelled. All on one reactor's thread.
#pragma once

namespace cairn::io {

class CancelSource;

class CancelToken {
 public:
  CancelToken() = default;
  explicit CancelToken(CancelSource& source) : source_(&source) {}
  [[nodiscard]] bool cancelled() const;

 private:
  friend class CancelHook;
  CancelSource* source_ = nullptr;
};

// Runs on_cancel() when the token's source is cancelled, at most once. A waiting primitive derives
// from it; the destructor unhooks. When the source is cancelled already, arm() runs it at once.
class CancelHook {
 public:
  CancelHook() = default;
  virtual ~CancelHook() { disarm(); }
  CancelHook(const CancelHook&) = delete;
  CancelHook& operator=(const CancelHook&) = delete;

  void arm(CancelToken token);
  void disarm();

 protected:
  virtual void on_cancel() = 0;

 private:
  friend class CancelSource;
  CancelSource* source_ = nullptr;
  CancelHook* next_ = nullptr;
  CancelHook* previous_ = nullptr;
};

class CancelSource {
 public:
  CancelSource() = default;
  CancelSource(const CancelSource&) = delete;
  CancelSource& operator=(const CancelSource&) = delete;
  ~CancelSource();

  void cancel();
  [[nodiscard]] bool cancelled() const { return cancelled_; }
  [[nodiscard]] CancelToken token() { return CancelToken(*this); }

 private:
  friend class CancelHook;
  CancelHook* hooks_ = nullptr;
  bool cancelled_ = false;
};

}  // namespace cairn::io
