// Examples of command lines, which --help shows behind the options of a subcommand.
#pragma once

#include <span>
#include <string_view>

namespace cairn::tools {

struct ImgExample {
  std::string_view command;
  std::string_view purpose;
  std::string_view arguments;  // behind the command's name
};

// All of them; those of a command stand together.
[[nodiscard]] std::span<const ImgExample> img_examples();

}  // namespace cairn::tools
