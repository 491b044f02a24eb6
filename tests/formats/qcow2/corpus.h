// A corpus of qcow2 images that were damaged by hand: every field and every kind of table entry
// with values that are out of range, overlap, lead in circles or are as large as they can be; and
// images that are made to cost as much as they can. All of it is made by code, from sound images.
#pragma once

#include <string>
#include <vector>

#include "tests/support/sparse_bytes.h"

namespace cairn::qcow2 {

struct DamagedImage {
  std::string name;  // "v3: L1 entry 0 = the L1 table": what was changed in which sound image
  testing::SparseBytes bytes;
};

// The same in every run. Files are sparse, and some are very long.
[[nodiscard]] std::vector<DamagedImage> damaged_images();

// Those of them that are made to cost time and memory (corpus_costly.cc): tables as large as they
// can be, most of them holes or the same cluster over and over, so that the files are small.
[[nodiscard]] std::vector<DamagedImage> costly_images();

}  // namespace cairn::qcow2
