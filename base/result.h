// Result<T> and Error: the one error type of the engine.
//
// Every fallible function returns Result<T>. An Error carries an errno (never 0), a message that
// says what was wrong with which file, and the QMP class that a monitor reports it under. A message
// gains context on its way up with Error::prefix(), once per layer that knows something new.
#pragma once

#include <cstdlib>
#include <cstring>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace cairn {

// The error classes of the QMP specification (section "Errors").
enum class ErrorClass {
  kGenericError,
  kCommandNotFound,
  kDeviceNotActive,
  kDeviceNotFound,
  kKvmMissingCap,
};

class [[nodiscard]] Error {
 public:
  // `code` is a positive errno; 0 or a negative value is turned into EIO, so that no failure can
  // be mistaken for a success.
  Error(int code, std::string message, ErrorClass error_class = ErrorClass::kGenericError);

  Error(const Error& other);
  Error& operator=(const Error& other);
  Error(Error&&) noexcept = default;
  Error& operator=(Error&&) noexcept = default;
  ~Error() = default;

  // "MESSAGE: strerror(code)", the field's usual form.
  static Error from_errno(int code, std::string_view message);
  // strerror(code) alone.
  static Error from_errno(int code);

  [[nodiscard]] int code() const { return rep_->code; }
  [[nodiscard]] const std::string& message() const { return rep_->message; }
  [[nodiscard]] ErrorClass error_class() const { return rep_->error_class; }
  // Advice for people, printed by tools on a line of its own; empty when there is none.
  [[nodiscard]] const std::string& hint() const { return rep_->hint; }

  // The same error with `context` in front of its message; `context` brings its own ": ".
  [[nodiscard]] Error prefix(std::string_view context) &&;
  [[nodiscard]] Error with_hint(std::string hint) &&;
  [[nodiscard]] Error with_class(ErrorClass error_class) &&;

 private:
  struct Rep {
    int code;
    ErrorClass error_class;
    std::string message;
    std::string hint;
  };
  std::unique_ptr<Rep> rep_;
};

template <typename T = void>
using Result = std::expected<T, Error>;

// Builds the failed half of any Result: `return fail(EINVAL, "...", args...)`.
template <typename... Args>
[[nodiscard]] std::unexpected<Error> fail(int code, fmt::format_string<Args...> format,
                                          Args&&... args) {
  return std::unexpected<Error>(std::in_place, code,
                                fmt::format(format, std::forward<Args>(args)...));
}

// "MESSAGE: strerror(code)".
template <typename... Args>
[[nodiscard]] std::unexpected<Error> fail_errno(int code, fmt::format_string<Args...> format,
                                                Args&&... args) {
  return std::unexpected<Error>(
      Error::from_errno(code, fmt::format(format, std::forward<Args>(args)...)));
}

// Takes the error out. There has to be one: what lies there otherwise is no Error, and using it as
// one would go on with memory that is not its own, so that the program ends here.
template <typename T>
[[nodiscard]] Error take_error(Result<T>& result) {
  if (result.has_value()) {
    std::abort();
  }
  return std::move(result.error());
}

// Hands an error up unchanged: `if (!r) return pass(r);`.
template <typename T>
[[nodiscard]] std::unexpected<Error> pass(Result<T>& result) {
  return std::unexpected<Error>(take_error(result));
}
template <typename T>
[[nodiscard]] std::unexpected<Error> pass(Result<T>&& result) {
  return std::unexpected<Error>(take_error(result));
}

// Hands an error up with context in front: `return pass(r, "Could not open 'x': ")`.
template <typename T>
[[nodiscard]] std::unexpected<Error> pass(Result<T>& result, std::string_view context) {
  return std::unexpected<Error>(take_error(result).prefix(context));
}
template <typename T>
[[nodiscard]] std::unexpected<Error> pass(Result<T>&& result, std::string_view context) {
  return std::unexpected<Error>(take_error(result).prefix(context));
}

}  // namespace cairn
