// The chain of images that a history starts with.
#include <algorithm>

#include <fmt/format.h>

#include "base/bytes.h"
#include "tests/sim/history.h"

namespace cairn::testing {
namespace {

// What a cluster holds beyond the end of the image counts, too: growing makes it a part.
void set(ContentModel& model, uint64_t offset, uint64_t length, WriteNumber number) {
  model.end_change(model.begin_change(offset, length, {.number = number}), true);
}

// Everything so far has been there for ever.
void settle(ContentModel& model) { model.end_flush(model.begin_flush()); }

}  // namespace

void History::fill_cluster(Qcow2Builder& builder, ContentModel& model, const Qcow2Shape& shape,
                           uint64_t index) {
  const uint64_t size = shape.cluster_size();
  const uint64_t offset = index * size;
  constexpr unsigned kWeights[] = {40, 35, 10, 5, 10};
  std::vector<std::byte> content(size);
  switch (random_.weighted(kWeights)) {
    case 1:
      fill_pattern(next_number_, offset, content);
      builder.data(offset, content);
      set(model, offset, size, next_number_++);
      break;
    case 2:
    case 3:
      if (shape.version >= 3 && !shape.data_file_raw) {
        builder.zero(offset, random_.chance(50));
        set(model, offset, size, kZeroes);
      }
      break;
    case 4:
      fill_pattern(next_number_, offset, std::span(content).first(size / 2));
      if (builder.compressed(offset, content)) {
        set(model, offset, size / 2, next_number_++);
        set(model, offset + size / 2, size / 2, kZeroes);
      }
      break;
    default:
      break;
  }
  if (random_.chance(5)) {
    builder.leave_hole(random_.between(1, 3));
  }
}

std::unique_ptr<ContentModel> History::build_image(const std::string& name, const Qcow2Shape& shape,
                                                   const ContentModel* backing, bool populated) {
  auto model = std::make_unique<ContentModel>(shape.size, backing);
  Qcow2Builder builder(shape);
  const uint64_t clusters = div_round_up(shape.size, shape.cluster_size());
  // Of a large disk a part is enough.
  const uint64_t filled = populated ? std::min<uint64_t>(clusters, 200) : 0;
  if (shape.data_file_raw) {
    // Every cluster is mapped, as such images are made.
    const std::vector<std::byte> zeroes(shape.cluster_size());
    for (uint64_t index = 0; index < clusters; ++index) {
      builder.data(index * shape.cluster_size(), zeroes);
    }
  }
  for (uint64_t index = 0; index < filled; ++index) {
    fill_cluster(builder, *model, shape, index);
  }
  settle(*model);
  world_.add(name, builder.finish());
  if (shape.external_data()) {
    FileTraits traits = plan_.traits;
    traits.limits = {.native_fua = traits.limits.native_fua};  // its end is where the disk's is
    world_.add(shape.data_file, builder.finish_data(), traits);
  }
  return model;
}

std::unique_ptr<ContentModel> History::build_raw(const std::string& name, uint64_t size,
                                                 bool populated) {
  auto model = std::make_unique<ContentModel>(size);
  SparseBytes content(size);
  for (uint64_t offset = 0; populated && offset < size;) {
    const uint64_t length = std::min(random_.between(1, 64) * 512, size - offset);
    if (random_.chance(60)) {
      std::vector<std::byte> data(length);
      fill_pattern(next_number_, offset, data);
      content.write(offset, data);
      set(*model, offset, length, next_number_++);
    }
    offset += length;
  }
  settle(*model);
  world_.add(name, std::move(content));
  return model;
}

// Of the image that has so many below it.
std::string History::below_name(std::size_t depth) const {
  return depth == 0 && plan_.raw_base ? "base.raw" : fmt::format("base{}.qcow2", depth);
}

void History::build_images() {
  std::string below;
  std::string below_format;
  for (unsigned depth = 0; depth < plan_.backing; ++depth) {
    // The lengths of a chain's images need not be the same.
    const uint64_t size =
        random_.chance(60)
            ? plan_.size
            : std::max<uint64_t>(512, align_down(random_.between(1, 2 * plan_.size), 512));
    const ContentModel* backing = below_.empty() ? nullptr : below_.back().get();
    if (depth == 0 && plan_.raw_base) {
      below = below_name(depth);
      below_format = "raw";
      below_.push_back(build_raw(below, size, true));
      continue;
    }
    Qcow2Shape shape;
    shape.cluster_bits =
        random_.chance(60) ? plan_.shape.cluster_bits : random_.pick({9U, 12U, 16U});
    shape.size = size;
    shape.backing_file = below;
    shape.backing_format = below_format;
    below = below_name(depth);
    below_format = "qcow2";
    below_.push_back(build_image(below, shape, backing, true));
  }
  const ContentModel* backing = below_.empty() ? nullptr : below_.back().get();
  if (plan_.format == Plan::Format::kRaw) {
    top_ = "top.raw";
    model_ = build_raw(top_, plan_.size, plan_.populated);
  } else {
    top_ = "top.qcow2";
    Qcow2Shape shape = plan_.shape;
    shape.backing_file = below;
    shape.backing_format = below_format;
    model_ = build_image(top_, shape, backing, plan_.populated);
  }
  world_.find(top_)->traits = plan_.traits;
  versions_ = {plan_.shape.version};
  refcount_orders_ = {plan_.shape.refcount_order};
  lazy_ = {plan_.shape.lazy_refcounts};
  backing_names_ = {below};
}

}  // namespace cairn::testing
