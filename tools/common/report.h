// What all programs print about themselves and their failures, to standard error.
//
// Messages start with the name that the program was called by, so that a link named "qemu-img" is
// a complete stand-in.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace cairn::tools {

// The last part of argv[0]. Called once, before anything else here.
void set_program_name(std::string_view argv0);
[[nodiscard]] const std::string& program_name();

// "PROG: message", and on further lines the advice that comes with an Error.
void report_error(std::string_view message);
void report_error(const Error& error);
// "PROG: warning: message".
void report_warning(std::string_view message);
// The same with advice on a line of its own, which the field leaves without an end.
void report_warning(std::string_view message, std::string_view advice);

// "Try 'PROG COMMAND --help' for more information"; without a command for the program itself.
void suggest_help(std::string_view command);

// Of all programs.
[[nodiscard]] std::string_view version_number();

// The first line of --version.
[[nodiscard]] std::string version_line();

// Everything printed is on its way out; false, and an error told, when it could not be written.
[[nodiscard]] bool flush_output();

}  // namespace cairn::tools
