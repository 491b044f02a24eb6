// What the options of a reopen mean: what may change, what children follow, how lists of options
// for the same node come together.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "block/driver.h"
#include "schema/types_block_options.h"

namespace cairn::block {

struct DriverInfo;
struct NodeOptions;
struct OpenFlags;

// What the options of a parent say in words. A child that was made for it follows, in what its own
// options leave open.
struct Inherited {
  std::optional<bool> read_only;
  std::optional<bool> auto_read_only;
  std::optional<bool> cache_direct;
  std::optional<bool> no_flush;

  // What a child of the role `role` has from a parent with these options, which itself has
  // inherited `mine`. Backing nodes stay read-only or not, as they are.
  [[nodiscard]] static Inherited from(const schema::BlockdevOptions& options, const Inherited& mine,
                                      ChildRole role);
  // What is left open to a node that has `now` and keeps what nobody speaks of.
  [[nodiscard]] OpenFlags flags(const NodeOptions& now) const;
};

// What options say of the child of a name.
struct ChildWish {
  enum class Kind : uint8_t { kNothing, kNull, kName, kInline };
  Kind kind = Kind::kNothing;
  // They live as long as the options.
  const std::string* name = nullptr;
  const schema::BlockdevOptions* options = nullptr;
};
[[nodiscard]] ChildWish child_wish(const schema::BlockdevOptions& options, std::string_view child);

// Options of the driver that differ, other than those of children.
[[nodiscard]] bool driver_options_differ(const schema::BlockdevOptions& before,
                                         const schema::BlockdevOptions& wanted);
// EINVAL when one differs that may not change, in the field's words.
[[nodiscard]] Result<void> check_changes(const DriverInfo& driver,
                                         const schema::BlockdevOptions& before,
                                         const schema::BlockdevOptions& wanted);

// `first`, and for what it does not mention `then`.
[[nodiscard]] schema::BlockdevOptions merge_options(const schema::BlockdevOptions& first,
                                                    const schema::BlockdevOptions& then);

}  // namespace cairn::block
