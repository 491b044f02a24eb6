// The options that a qcow2 image is opened with, checked and completed.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/overlap_guard.h"
#include "formats/qcow2/reclaim.h"

namespace cairn::schema {
struct BlockdevOptionsQcow2;
}

namespace cairn::qcow2 {

struct CacheSizes {
  uint64_t l2 = 0;        // bytes
  uint64_t refcount = 0;  // bytes
  uint64_t l2_entry = 0;  // bytes of the pages in which L2 tables are cached
};

struct OpenOptions {
  CacheSizes caches;
  OverlapChecks overlap_checks;
  Reclaim::Policy pass_discard;
  bool discard_no_unref = false;
  bool lazy_refcounts = false;
  uint32_t cache_clean_seconds = 0;  // 0: never
  int compression_level = 0;         // 0: what the type has by default
};

// `discard_unmap`: the node's `discard` option, which `pass-discard-request` follows. EINVAL with
// the messages that people know.
[[nodiscard]] Result<OpenOptions> parse_open_options(const schema::BlockdevOptionsQcow2& options,
                                                     const Header& header, bool discard_unmap);

}  // namespace cairn::qcow2
