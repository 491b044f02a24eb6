#include "block/open_backing.h"

#include <utility>
#include <variant>

namespace cairn::block {

io::Task<Result<Edge*>> open_backing(OpenContext& context,
                                     const std::optional<schema::BlockdevRefOrNull>& wanted,
                                     std::string filename, std::string format) {
  if (!wanted && filename.empty()) {
    co_return nullptr;
  }
  if (!wanted) {
    co_return co_await context.open_implicit_backing(std::move(filename), std::move(format));
  }
  schema::BlockdevRef ref;
  if (const auto* name = std::get_if<std::string>(&wanted->value)) {
    if (name->empty()) {
      co_return nullptr;  // how older clients say null
    }
    ref.value = *name;
  } else if (const auto* inner =
                 std::get_if<schema::Box<schema::BlockdevOptions>>(&wanted->value)) {
    ref.value = *inner;
  } else {
    co_return nullptr;  // no backing image, whatever the image says
  }
  co_return co_await context.open_child("backing", ref, ChildRole::kBacking);
}

}  // namespace cairn::block
