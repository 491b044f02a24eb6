// RefcountRebuild: new refcount structures for an image whose old ones are not to be trusted, and a
// new snapshot table if that is wanted.
//
// They are written behind the end of the file, where nothing lies and nothing refers to, and become
// the image's with the one sector of the header that names them. Until then the image is byte for
// byte what it was; what fails or is cut short leaves a longer file at worst.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/result.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/reference_counts.h"
#include "io/task.h"

namespace cairn::qcow2 {

class RefcountRebuild {
 public:
  // All must stay as they are while the rebuild runs.
  struct References {
    const ReferenceCounts& all;
    // Those of `all` that come from the old structures, and end with them.
    const ReferenceCounts& structure;
    // Clusters behind the end of the file that something refers to, as begin and end.
    const std::map<uint64_t, uint64_t>& beyond;
  };

  // Counts get 2^`order` bits. Another order than they have leaves no use of the image but opening
  // it again.
  RefcountRebuild(Image& image, References references, uint32_t order);
  // `snapshot_table`: the bytes of a new snapshot table, which must stay where they are; empty: the
  // image keeps its own. What the old one refers to itself is part of `structure`.
  RefcountRebuild(Image& image, References references, std::span<const std::byte> snapshot_table);

  // Writes the structures, and has the header name them; durable when it returns. EFBIG when the
  // image is too large for a refcount table.
  [[nodiscard]] io::Task<Result<void>> run();

  // The entries of the new table.
  [[nodiscard]] const std::vector<uint64_t>& table() const { return table_; }

 private:
  RefcountRebuild(Image& image, References references, uint32_t order,
                  std::span<const std::byte> snapshot_table);

  [[nodiscard]] Result<void> plan();
  [[nodiscard]] uint64_t find_row(uint64_t from, uint64_t clusters) const;
  void place(uint64_t table_clusters, std::size_t blocks);
  [[nodiscard]] bool is_beyond(uint64_t cluster) const;
  [[nodiscard]] bool is_new(uint64_t cluster) const;
  [[nodiscard]] uint64_t count_of(uint64_t cluster) const;
  [[nodiscard]] std::vector<uint64_t> blocks_in_use() const;
  [[nodiscard]] io::Task<Result<void>> write();
  [[nodiscard]] io::Task<Result<void>> write_blocks();
  void fill_block(uint64_t index, std::byte* bytes) const;

  Image& image_;
  const Geometry geometry_;
  const References references_;
  const std::span<const std::byte> snapshot_table_;
  const uint64_t snapshot_clusters_;
  const uint64_t old_length_;  // of the file
  const uint64_t start_;       // the first cluster behind it
  uint64_t end_ = 0;           // and the first one behind the new structures
  uint64_t snapshot_cluster_ = 0;
  uint64_t table_cluster_ = 0;
  uint64_t table_clusters_ = 0;
  std::vector<uint64_t> blocks_;          // their indices in the table
  std::vector<uint64_t> block_clusters_;  // and where they lie
  std::vector<uint64_t> table_;
};

}  // namespace cairn::qcow2
