#include "tests/support/sparse_bytes.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace cairn::testing {

SparseBytes::Page& SparseBytes::writable_page(uint64_t index) {
  std::shared_ptr<Page>& page = pages_[index];
  if (!page) {
    page = std::make_shared<Page>();
  } else if (page.use_count() > 1) {
    page = std::make_shared<Page>(*page);
  }
  return *page;
}

void SparseBytes::resize(uint64_t size) {
  if (size < size_) {
    zero(size, size_ - size);
  }
  size_ = size;
}

void SparseBytes::read(uint64_t offset, std::span<std::byte> out) const {
  if (out.empty()) {
    return;
  }
  std::fill(out.begin(), out.end(), std::byte{0});
  const uint64_t end = offset + out.size();
  for (auto it = pages_.lower_bound(offset / kPage); it != pages_.end(); ++it) {
    const uint64_t start = it->first * kPage;
    if (start >= end) {
      return;
    }
    const uint64_t from = std::max(start, offset);
    const uint64_t to = std::min(start + kPage, end);
    std::memcpy(out.data() + (from - offset), it->second->data() + (from - start), to - from);
  }
}

std::vector<std::byte> SparseBytes::read(uint64_t offset, uint64_t length) const {
  std::vector<std::byte> out(length);
  read(offset, out);
  return out;
}

void SparseBytes::write(uint64_t offset, std::span<const std::byte> data) {
  size_ = std::max(size_, offset + data.size());
  while (!data.empty()) {
    const uint64_t within = offset % kPage;
    const uint64_t length = std::min<uint64_t>(kPage - within, data.size());
    std::memcpy(writable_page(offset / kPage).data() + within, data.data(), length);
    offset += length;
    data = data.subspan(length);
  }
}

void SparseBytes::zero(uint64_t offset, uint64_t length) {
  const uint64_t end = offset + length;
  size_ = std::max(size_, end);
  auto it = pages_.lower_bound(offset / kPage);
  while (it != pages_.end() && it->first * kPage < end) {
    const uint64_t start = it->first * kPage;
    if (start >= offset && start + kPage <= end) {
      it = pages_.erase(it);
      continue;
    }
    const uint64_t from = std::max(start, offset);
    const uint64_t to = std::min(start + kPage, end);
    std::memset(writable_page(it->first).data() + (from - start), 0, to - from);
    ++it;
  }
}

SparseBytes::Run SparseBytes::run_at(uint64_t offset) const {
  uint64_t index = offset / kPage;
  auto it = pages_.lower_bound(index);
  const bool stored = it != pages_.end() && it->first == index;
  uint64_t end = size_;
  if (stored) {
    while (it != pages_.end() && it->first == index) {
      ++it;
      ++index;
    }
    end = std::min(end, index * kPage);
  } else if (it != pages_.end()) {
    end = std::min(end, it->first * kPage);
  }
  return {end - offset, stored};
}

Result<void> SparseBytes::save(const std::string& path) const {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  for (const auto& [index, page] : pages_) {
    const uint64_t start = index * kPage;
    file.seekp(static_cast<std::streamoff>(start));
    file.write(reinterpret_cast<const char*>(page->data()),
               static_cast<std::streamsize>(std::min(kPage, size_ - start)));
  }
  if (size_ > 0) {  // The last byte fixes the length of a file with a hole at its end.
    std::byte last{};
    read(size_ - 1, std::span(&last, 1));
    file.seekp(static_cast<std::streamoff>(size_ - 1));
    file.write(reinterpret_cast<const char*>(&last), 1);
  }
  file.close();
  if (!file) {
    return fail(EIO, "Could not write '{}'", path);
  }
  return {};
}

Result<SparseBytes> SparseBytes::load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return fail(ENOENT, "Could not open '{}'", path);
  }
  SparseBytes bytes;
  Page page;
  const Page zeroes{};
  while (file.read(reinterpret_cast<char*>(page.data()), kPage) || file.gcount() > 0) {
    const auto length = static_cast<uint64_t>(file.gcount());
    const uint64_t offset = bytes.size_;
    if (std::memcmp(page.data(), zeroes.data(), length) != 0) {
      bytes.write(offset, std::span(page).first(length));
    } else {
      bytes.size_ = offset + length;
    }
  }
  return bytes;
}

}  // namespace cairn::testing
