#include "base/result.h"

#include <cerrno>

namespace cairn {

Error::Error(int code, std::string message, ErrorClass error_class)
    : rep_(std::make_unique<Rep>(Rep{.code = code > 0 ? code : EIO,
                                     .error_class = error_class,
                                     .message = std::move(message),
                                     .hint = {}})) {}

Error::Error(const Error& other) : rep_(std::make_unique<Rep>(*other.rep_)) {}

Error& Error::operator=(const Error& other) {
  if (this != &other) {
    rep_ = std::make_unique<Rep>(*other.rep_);
  }
  return *this;
}

Error Error::from_errno(int code, std::string_view message) {
  const int positive = code > 0 ? code : EIO;
  return {positive, fmt::format("{}: {}", message, std::strerror(positive))};
}

Error Error::from_errno(int code) {
  const int positive = code > 0 ? code : EIO;
  return {positive, std::strerror(positive)};
}

Error Error::prefix(std::string_view context) && {
  rep_->message.insert(0, context);
  return std::move(*this);
}

Error Error::with_hint(std::string hint) && {
  rep_->hint = std::move(hint);
  return std::move(*this);
}

Error Error::with_class(ErrorClass error_class) && {
  rep_->error_class = error_class;
  return std::move(*this);
}

}  // namespace cairn
