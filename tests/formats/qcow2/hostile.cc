#include "tests/formats/qcow2/hostile.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::SparseBytes;

constexpr uint64_t kLargestRequest = 64 << 10;

// A small image with every kind of cluster, two L2 tables and a snapshot.
SparseBytes sound_image(bool second_version) {
  testing::Qcow2Shape shape{.cluster_bits = 9, .size = 100 * 512};
  if (second_version) {
    shape.version = 2;
  }
  testing::Qcow2Builder builder(shape);
  std::vector<std::byte> data(512);
  for (uint64_t cluster = 0; cluster < 100; ++cluster) {
    testing::fill_pattern(1, cluster * 512, std::span(data).first(200));
    if (cluster == 40) {
      builder.snapshot("1", "first");
    }
    if (cluster % 4 == 0) {
      builder.data(cluster * 512, data);
    } else if (cluster % 4 == 1 &&
               cluster > 40) {  // the builder has no compressed clusters in snapshots
      static_cast<void>(builder.compressed(cluster * 512, data));
    } else if (cluster % 4 == 2 && !second_version) {
      builder.zero(cluster * 512, cluster % 3 == 0);
    }
  }
  return builder.finish();
}

// Takes the input apart, byte by byte; zeroes when there is no more.
class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  template <typename T>
  T take() {
    T value{};
    const std::size_t count = std::min(sizeof(T), bytes_.size());
    std::memcpy(&value, bytes_.data(), count);
    bytes_ = bytes_.subspan(count);
    return value;
  }

 private:
  std::span<const uint8_t> bytes_;
};

void patch(SparseBytes& image, Input& input, int count) {
  while (count-- > 0) {
    const uint64_t word = input.take<uint16_t>() % (image.size() / 8);
    std::byte raw[8];
    store_be(raw, input.take<uint64_t>());
    // A few low bytes of a number, or all of it.
    const std::size_t length = 1 + input.take<uint8_t>() % 8;
    image.write(word * 8 + 8 - length, std::span(raw).last(length));
  }
}

void look(ImageWorld& image) {
  const uint64_t length = image.edge().length();
  std::vector<std::byte> data(std::min(length, kLargestRequest));
  static_cast<void>(image.run(image.edge().read(0, data.data(), data.size())));
  static_cast<void>(image.run(image.edge().read(length - data.size(), data.data(), data.size())));
  uint64_t offset = 0;
  for (int i = 0; i < 50 && offset < length; ++i) {
    const auto status = image.run(image.edge().status(offset, length - offset));
    offset += status ? status->length : 512;
  }
  static_cast<void>(image.run(image.driver().check({})));
}

void change(ImageWorld& image, Input& input) {
  const uint64_t size = image.edge().length();
  for (int i = 0; i < 12 && size >= 512; ++i) {
    const uint8_t what = input.take<uint8_t>();
    const uint64_t length = std::min<uint64_t>(1 + input.take<uint16_t>() % 8000, size);
    const uint64_t offset = input.take<uint16_t>() * uint64_t{64} % (size - length + 1);
    switch (what % 6) {
      case 0:
      case 1:
        static_cast<void>(image.write(2, offset, length));
        break;
      case 2:
        static_cast<void>(image.zero(offset, length, {.may_unmap = what % 2 == 0}));
        break;
      case 3:
        static_cast<void>(image.discard(offset, length));
        break;
      case 4:
        static_cast<void>(image.flush());
        break;
      default:
        static_cast<void>(
            image.run(image.edge().resize(input.take<uint16_t>() * uint64_t{512}, {})));
        return;
    }
  }
}

}  // namespace

void play_hostile_image(std::span<const uint8_t> bytes) {
  static const SparseBytes kBases[] = {sound_image(false), sound_image(true)};
  Input input(bytes);
  const uint8_t choice = input.take<uint8_t>();
  SparseBytes content = kBases[choice % 2];
  patch(content, input, choice / 2 % 8);
  ImageWorld image;
  image.options().l2_cache_size = choice >= 128 ? 1 : 1 << 20;
  image.world().add("image", std::move(content));
  for (const bool writable : {false, true}) {
    if (!image.open(writable)) {
      continue;
    }
    look(image);
    if (writable) {
      change(image, input);
    }
    static_cast<void>(image.close());
  }
}

}  // namespace cairn::qcow2
