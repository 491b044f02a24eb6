#include "tests/support/qcow2_builder.h"

#include <algorithm>
#include <cassert>

#include <zlib.h>
#include <zstd.h>

#include "base/bytes.h"

namespace cairn::testing {
namespace {

constexpr uint64_t kCopied = uint64_t{1} << 63;
constexpr uint64_t kCompressed = uint64_t{1} << 62;
constexpr uint64_t kAllZeroes = 1;

std::vector<std::byte> compress(std::span<const std::byte> content, bool zstd) {
  std::vector<std::byte> out(content.size());
  if (zstd) {
    const std::size_t length =
        ZSTD_compress(out.data(), out.size(), content.data(), content.size(), 1);
    out.resize(ZSTD_isError(length) != 0 ? 0 : length);
    return out;
  }
  z_stream stream{};
  // Raw deflate with a window of 4 KiB, as the format demands.
  if (deflateInit2(&stream, 1, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    return {};
  }
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int status = deflate(&stream, Z_FINISH);
  out.resize(status == Z_STREAM_END ? stream.total_out : 0);
  deflateEnd(&stream);
  return out;
}

}  // namespace

Qcow2Builder::Qcow2Builder(Qcow2Shape shape) : shape_(std::move(shape)) { refcounts_[0] = 1; }

template <typename T>
void Qcow2Builder::put(uint64_t offset, T value) {
  std::byte raw[sizeof(T)];
  store_be(raw, value);
  image_.write(offset, raw);
}

uint64_t Qcow2Builder::l1_entries() const {
  const uint64_t per_table =
      shape_.cluster_size() / shape_.l2_entry_bytes() * shape_.cluster_size();
  return std::max<uint64_t>(1, div_round_up(shape_.size, per_table));
}

uint64_t Qcow2Builder::allocate(uint64_t clusters) {
  const uint64_t first = next_cluster_;
  next_cluster_ += clusters;
  for (uint64_t cluster = first; cluster < next_cluster_; ++cluster) {
    refcounts_[cluster] = 1;
  }
  compressed_end_ = 0;
  return first * shape_.cluster_size();
}

void Qcow2Builder::drop(uint64_t offset) {
  const auto it = entries_.find(offset >> shape_.cluster_bits);
  if (it != entries_.end() && !shape_.external_data() &&
      align_down(it->second, shape_.cluster_size()) != 0) {
    assert((it->second & kCompressed) == 0 && "not needed by any test");
    --refcounts_[it->second >> shape_.cluster_bits];
  }
}

void Qcow2Builder::data(uint64_t offset, std::span<const std::byte> content) {
  assert(content.size() == shape_.cluster_size());
  drop(offset);
  const uint64_t host = shape_.external_data() ? offset : allocate(1);
  (shape_.external_data() ? data_ : image_).write(host, content);
  entries_[offset >> shape_.cluster_bits] = host;
}

void Qcow2Builder::zero(uint64_t offset, bool keep_space) {
  drop(offset);
  uint64_t host = 0;
  if (keep_space) {
    host = shape_.external_data() ? offset : allocate(1);
  }
  if (shape_.data_file_raw) {
    data_.zero(offset, shape_.cluster_size());
  }
  entries_[offset >> shape_.cluster_bits] = host | kAllZeroes;
}

uint64_t Qcow2Builder::place_compressed(uint64_t length) {
  const uint64_t size = shape_.cluster_size();
  const uint64_t most =
      shape_.refcount_order >= 6 ? UINT64_MAX : (uint64_t{1} << (1U << shape_.refcount_order)) - 1;
  uint64_t start = compressed_end_;
  // A piece may begin where the one before it ended, if that cluster can take one more reference.
  if (start == 0 || start % size == 0 || refcounts_[start / size] >= most) {
    start = next_cluster_ * size;
  }
  for (uint64_t cluster = start / size; cluster <= (start + length - 1) / size; ++cluster) {
    ++refcounts_[cluster];
    next_cluster_ = std::max(next_cluster_, cluster + 1);
  }
  compressed_end_ = start + length;
  return start;
}

bool Qcow2Builder::compressed(uint64_t offset, std::span<const std::byte> content) {
  assert(content.size() == shape_.cluster_size());
  if (shape_.external_data()) {
    return false;
  }
  const std::vector<std::byte> stored = compress(content, shape_.zstd);
  if (stored.empty() || stored.size() >= content.size()) {
    return false;
  }
  const uint64_t host = place_compressed(stored.size());
  image_.write(host, stored);
  const uint64_t sectors = (host + stored.size() - 1) / 512 - host / 512;
  entries_[offset >> shape_.cluster_bits] =
      kCompressed | sectors << (62 - (shape_.cluster_bits - 8)) | host;
  return true;
}

void Qcow2Builder::snapshot(const std::string& id, const std::string& name,
                            std::span<const std::byte> extra) {
  snapshots_.push_back({id, name, {extra.begin(), extra.end()}, entries_});
  for (const auto& [index, entry] : entries_) {
    assert((entry & kCompressed) == 0 && "not needed by any test");
    const uint64_t host = align_down(entry, shape_.cluster_size());
    if (host != 0) {
      ++refcounts_[host >> shape_.cluster_bits];
    }
  }
}

// Extended entries say in a bitmap, for all of the cluster, whether it is data or zeroes.
void Qcow2Builder::put_l2_entry(uint64_t offset, uint64_t entry) {
  if (!shape_.extended_l2) {
    put<uint64_t>(offset, entry);
    return;
  }
  uint64_t subclusters = 0;
  if ((entry & kCompressed) == 0) {
    subclusters = (entry & kAllZeroes) != 0 ? uint64_t{0xffffffff} << 32 : 0xffffffff;
    entry &= ~kAllZeroes;
  }
  put<uint64_t>(offset, entry);
  put<uint64_t>(offset + 8, subclusters);
}

uint64_t Qcow2Builder::write_tables(const std::map<uint64_t, uint64_t>& entries, bool copied) {
  const uint64_t per_table = shape_.cluster_size() / shape_.l2_entry_bytes();
  std::map<uint64_t, uint64_t> tables;
  for (const auto& [index, entry] : entries) {
    auto [table, added] = tables.try_emplace(index / per_table);
    if (added) {
      table->second = allocate(1);
      image_.zero(table->second, shape_.cluster_size());
    }
    const uint64_t host = align_down(entry, shape_.cluster_size());
    bool own = copied && (entry & kCompressed) == 0;
    if (shape_.external_data()) {
      own = own && (host != 0 || (entry & kAllZeroes) == 0);
    } else {
      own = own && host != 0 && refcounts_[host >> shape_.cluster_bits] == 1;
    }
    put_l2_entry(table->second + index % per_table * shape_.l2_entry_bytes(),
                 entry | (own ? kCopied : 0));
  }
  const uint64_t length = l1_entries() * 8;
  const uint64_t l1 = allocate(div_round_up(length, shape_.cluster_size()));
  image_.zero(l1, align_up(length, shape_.cluster_size()));
  for (const auto& [index, table] : tables) {
    put<uint64_t>(l1 + index * 8, table | (copied ? kCopied : 0));
  }
  return l1;
}

void Qcow2Builder::write_snapshots() {
  if (snapshots_.empty()) {
    return;
  }
  std::vector<std::byte> table;
  const auto append = [&table](auto value) {
    table.resize(table.size() + sizeof value);
    store_be(table.data() + table.size() - sizeof value, value);
  };
  for (const Snapshot& snapshot : snapshots_) {
    append(write_tables(snapshot.entries, false));
    append(static_cast<uint32_t>(l1_entries()));
    append(static_cast<uint16_t>(snapshot.id.size()));
    append(static_cast<uint16_t>(snapshot.name.size()));
    append(uint32_t{0});  // date
    append(uint32_t{0});
    append(uint64_t{0});  // clock of the guest
    append(uint32_t{0});  // length of the state of the guest
    const uint32_t standard = shape_.version >= 3 ? 16 : 0;
    append(standard + static_cast<uint32_t>(snapshot.extra.size()));
    if (standard != 0) {
      append(uint64_t{0});
      append(shape_.size);
    }
    table.insert(table.end(), snapshot.extra.begin(), snapshot.extra.end());
    for (const std::string& text : {snapshot.id, snapshot.name}) {
      const auto bytes = std::as_bytes(std::span(text));
      table.insert(table.end(), bytes.begin(), bytes.end());
    }
    table.resize(align_up(table.size(), 8));
  }
  snapshots_offset_ = allocate(div_round_up(table.size(), shape_.cluster_size()));
  image_.write(snapshots_offset_, table);
}

void Qcow2Builder::put_refcount(uint64_t block, uint64_t index, uint64_t value) {
  const unsigned bits = 1U << shape_.refcount_order;
  if (bits < 8) {
    const uint64_t at = block + index * bits / 8;
    std::byte byte{};
    image_.read(at, std::span(&byte, 1));
    byte |= static_cast<std::byte>(value << (index * bits % 8));
    image_.write(at, std::span(&byte, 1));
    return;
  }
  std::byte raw[8];
  store_be(raw, value);
  image_.write(block + index * (bits / 8), std::span(raw).last(bits / 8));
}

void Qcow2Builder::write_refcounts() {
  const uint64_t size = shape_.cluster_size();
  const uint64_t per_block = size * 8 >> shape_.refcount_order;
  const uint64_t used = next_cluster_;
  uint64_t blocks = 0;
  uint64_t table = 0;
  for (;;) {  // Table and blocks count themselves.
    const uint64_t total = used + blocks + table;
    const uint64_t need_blocks = div_round_up(total, per_block);
    const uint64_t need_table = std::max<uint64_t>(1, div_round_up(need_blocks * 8, size));
    if (need_blocks == blocks && need_table == table) {
      break;
    }
    blocks = need_blocks;
    table = need_table;
  }
  refcount_table_clusters_ = table;
  refcount_table_offset_ = allocate(table);
  const uint64_t first_block = allocate(blocks);
  image_.zero(refcount_table_offset_, (table + blocks) * size);
  for (uint64_t i = 0; i < blocks; ++i) {
    put<uint64_t>(refcount_table_offset_ + i * 8, first_block + i * size);
  }
  for (const auto& [cluster, count] : refcounts_) {
    put_refcount(first_block + cluster / per_block * size, cluster % per_block, count);
  }
}

void Qcow2Builder::write_header() {
  put<uint32_t>(0, 0x514649fb);
  put<uint32_t>(4, shape_.version);
  put<uint32_t>(20, shape_.cluster_bits);
  put<uint64_t>(24, shape_.size);
  put<uint32_t>(36, static_cast<uint32_t>(l1_entries()));
  put<uint64_t>(40, l1_offset_);
  put<uint64_t>(48, refcount_table_offset_);
  put<uint32_t>(56, static_cast<uint32_t>(refcount_table_clusters_));
  put<uint32_t>(60, static_cast<uint32_t>(snapshots_.size()));
  put<uint64_t>(64, snapshots_offset_);
  uint64_t end = 72;
  if (shape_.version >= 3) {
    end = shape_.zstd ? 112 : 104;
    put<uint64_t>(72, (shape_.external_data() ? 4 : 0) | (shape_.zstd ? 8 : 0) |
                          (shape_.extended_l2 ? 16 : 0));
    put<uint64_t>(80, shape_.lazy_refcounts ? 1 : 0);
    put<uint64_t>(88, shape_.data_file_raw ? 2 : 0);
    put<uint32_t>(96, shape_.refcount_order);
    put<uint32_t>(100, static_cast<uint32_t>(end));
    if (shape_.zstd) {
      put<uint8_t>(104, 1);
    }
  }
  const auto put_extension = [&](uint32_t type, const std::string& text) {
    if (!text.empty()) {
      put<uint32_t>(end, type);
      put<uint32_t>(end + 4, static_cast<uint32_t>(text.size()));
      image_.write(end + 8, std::as_bytes(std::span(text)));
      end += 8 + align_up(text.size(), 8);
    }
  };
  put_extension(0xe2792aca, shape_.backing_format);
  put_extension(0x44415441, shape_.data_file);
  end += 8;  // the end of the header extensions: zeroes
  if (!shape_.backing_file.empty()) {
    put<uint64_t>(8, end);
    put<uint32_t>(16, static_cast<uint32_t>(shape_.backing_file.size()));
    image_.write(end, std::as_bytes(std::span(shape_.backing_file)));
  }
}

SparseBytes Qcow2Builder::finish() {
  write_snapshots();
  l1_offset_ = write_tables(entries_, true);
  write_refcounts();
  write_header();
  image_.resize(std::max(image_.size(), next_cluster_ * shape_.cluster_size()));
  return std::move(image_);
}

SparseBytes Qcow2Builder::finish_data() {
  data_.resize(shape_.size);
  return std::move(data_);
}

}  // namespace cairn::testing
