// Hostile images: a sound image with a few of its numbers replaced by whatever the input says, then
// opened, read, changed, checked and closed. Shared by a unit test and a fuzz target.
#pragma once

#include <cstdint>
#include <span>

namespace cairn::qcow2 {

// Any input is fine. Returns having done nothing out of bounds; what the requests answer does not
// matter, only that they do, in bounded time and memory.
void play_hostile_image(std::span<const uint8_t> input);

}  // namespace cairn::qcow2
