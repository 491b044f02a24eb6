// Isal: what is needed of ISA-L, Intel's library with the fastest known deflate. It is loaded with
// the first stream: most processes never see one, and loading is part of the time they take to
// start.
#pragma once

#include <isa-l/igzip_lib.h>

namespace cairn::deflate {

// The functions of these names.
struct Isal {
  decltype(&isal_deflate_init) deflate_init = nullptr;
  decltype(&isal_deflate) deflate = nullptr;
  decltype(&isal_inflate_init) inflate_init = nullptr;
  decltype(&isal_inflate_stateless) inflate_stateless = nullptr;
};

// Loaded once, and never unloaded. Null when it is not installed.
[[nodiscard]] const Isal* isal();

}  // namespace cairn::deflate
