#include "tests/sim/content_model.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include <fmt/format.h>

namespace cairn::testing {

ContentModel::ContentModel(uint64_t length, const ContentModel* backing)
    : length_(length), backing_(backing) {
  extend(length);
}

void ContentModel::split(uint64_t at) {
  auto it = segments_.lower_bound(at);
  if (at >= end_ || (it != segments_.end() && it->first == at)) {
    return;
  }
  segments_.emplace_hint(it, at, std::prev(it)->second);
}

std::pair<ContentModel::Segments::iterator, ContentModel::Segments::iterator> ContentModel::cut(
    uint64_t start, uint64_t end) {
  extend(end);
  split(start);
  split(end);
  return {segments_.lower_bound(start), segments_.lower_bound(end)};
}

void ContentModel::extend(uint64_t end) {
  if (end <= end_) {
    return;
  }
  // What never was is as good as what is behind it, or zeroes.
  const uint64_t start = std::exchange(end_, end);
  segments_[start] = {};
  add_entries(start, end, kZeroes, {});
  if (backing_ != nullptr && start < backing_->length_) {
    add_backing(start, end, {});
    // Content starts as that of the backing disk alone.
    for (auto it = segments_.lower_bound(start); it != segments_.end(); ++it) {
      it->second.entries.erase(it->second.entries.begin());
    }
  }
}

void ContentModel::add_entries(uint64_t start, uint64_t end, WriteNumber number,
                               const Entry& prototype) {
  if (start >= end) {
    return;
  }
  const auto [first, last] = cut(start, end);
  for (auto it = first; it != last; ++it) {
    Entry entry = prototype;
    entry.number = number;
    it->second.entries.push_back(entry);
    it->second.last_change = now_;
  }
}

void ContentModel::add_backing(uint64_t start, uint64_t end, const Entry& prototype) {
  const uint64_t backing_end = std::clamp(backing_ ? backing_->length_ : 0, start, end);
  if (backing_end > start) {
    add_from(*backing_, start, backing_end, prototype);
  }
  add_entries(backing_end, end, kZeroes, prototype);
}

// Every value that the other disk may hold there.
void ContentModel::add_from(const ContentModel& other, uint64_t start, uint64_t end,
                            const Entry& prototype) {
  auto it = std::prev(other.segments_.upper_bound(start));
  for (; it != other.segments_.end() && it->first < end; ++it) {
    const auto next = std::next(it);
    const uint64_t stop = next == other.segments_.end() ? other.end_ : next->first;
    for (const Entry& entry : it->second.entries) {
      add_entries(std::max(start, it->first), std::min(stop, end), entry.number, prototype);
    }
  }
}

ContentModel::Handle ContentModel::begin_change(uint64_t offset, uint64_t length, Values values) {
  const Handle handle = ++now_;
  changes_[handle] = {offset, offset + length, handle, values.advice};
  const Entry entry{.change = handle, .start = handle, .end = kNever};
  if (values.number) {
    add_entries(offset, offset + length, *values.number, entry);
  }
  if (values.backing) {
    add_backing(offset, offset + length, entry);
  }
  return handle;
}

void ContentModel::end_change(Handle handle, bool succeeded, bool durable) {
  const Change change = changes_.at(handle);
  changes_.erase(handle);
  ++now_;
  const auto [first, last] = cut(change.start, change.end);
  for (auto it = first; it != last; ++it) {
    it->second.last_change = now_;
    for (Entry& entry : it->second.entries) {
      if (entry.change == handle) {
        entry.end = now_;
      } else if (succeeded && !change.advice && entry.end < change.begun) {
        entry.superseded = std::min(entry.superseded, now_);
        entry.durably_gone |= durable;
      }
    }
    collect(it->second);
  }
}

void ContentModel::collect(Segment& segment) const {
  const Tick oldest_read = reads_.empty() ? kNever : reads_.begin()->second;
  std::erase_if(segment.entries, [oldest_read](const Entry& entry) {
    return entry.durably_gone && entry.superseded < oldest_read;
  });
}

ContentModel::Handle ContentModel::begin_read() {
  ++now_;
  reads_[now_] = now_;
  return now_;
}

void ContentModel::drop_read(Handle handle) { reads_.erase(handle); }

void ContentModel::end_flush(Handle handle) {
  for (auto& [start, segment] : segments_) {
    for (Entry& entry : segment.entries) {
      entry.durably_gone |= entry.superseded < handle;
    }
    collect(segment);
  }
  std::erase_if(lengths_, [handle](const LengthEntry& entry) { return entry.superseded < handle; });
}

void ContentModel::begin_resize(uint64_t length, Values added) {
  resizing_to_ = length;
  if (length < length_) {
    resize_change_ =
        begin_change(length, length_ - length,
                     {.number = kZeroes, .backing = backing_ != nullptr, .advice = true});
  } else {
    resize_change_ = begin_change(length_, length - length_, added);
  }
}

void ContentModel::end_resize(bool succeeded, bool changed) {
  end_change(resize_change_, succeeded);
  const uint64_t length = *std::exchange(resizing_to_, std::nullopt);
  if (changed) {
    lengths_.push_back({std::exchange(length_, length), succeeded ? now_ : kNever});
  } else {
    // The image may have either length if the power goes now.
    lengths_.push_back({length, kNever});
  }
}

ContentModel ContentModel::copy(Handle read) {
  assert(!resizing_to_);
  const Tick since = reads_.at(read);
  ContentModel other(length_, backing_);
  other.segments_ = segments_;
  other.end_ = end_;
  for (auto& [start, segment] : other.segments_) {
    std::erase_if(segment.entries, [since](const Entry& e) { return e.superseded < since; });
    for (Entry& entry : segment.entries) {
      entry = {.number = entry.number};
    }
    segment.last_change = 0;
  }
  reads_.erase(read);
  return other;
}

void ContentModel::begin_replace(const ContentModel& state) {
  resizing_to_ = state.length_;
  const auto replace = [&](uint64_t start, uint64_t end, bool advice) {
    const Handle handle = begin_change(start, end - start, {.advice = advice});
    add_from(state, start, std::min(end, state.end_),
             {.change = handle, .start = handle, .end = kNever});
    return handle;
  };
  resize_change_ = replace(0, state.length_, false);
  // What lies beyond the end may show when a later resize fails.
  beyond_change_ = replace(state.length_, std::max(end_, state.end_), true);
}

void ContentModel::end_replace(bool succeeded, bool changed) {
  end_change(resize_change_, succeeded, succeeded);
  end_change(beyond_change_, succeeded);
  const uint64_t length = *std::exchange(resizing_to_, std::nullopt);
  if (succeeded) {
    lengths_.clear();
  } else {
    lengths_.push_back({changed ? length_ : length, kNever});
  }
  length_ = changed ? length : length_;
}

void ContentModel::begin_adopt(const ContentModel& overlay) {
  resizing_to_ = std::max(length_, overlay.length_);
  if (overlay.length_ > length_) {
    // The end may have moved already, while what is behind it is still to come.
    end_change(begin_change(length_, overlay.length_ - length_,
                            {.number = kZeroes, .backing = backing_ != nullptr, .advice = true}),
               true);
  }
  resize_change_ = begin_change(0, overlay.length_, {});
  add_from(overlay, 0, overlay.length_,
           {.change = resize_change_, .start = resize_change_, .end = kNever});
}

void ContentModel::end_adopt(bool succeeded, uint64_t length) {
  end_change(resize_change_, succeeded, succeeded);
  const uint64_t wanted = *std::exchange(resizing_to_, std::nullopt);
  if (!succeeded) {
    // The disk may have the one or the other, whatever it shows now.
    lengths_.push_back({length_, kNever});
    lengths_.push_back({wanted, kNever});
  }
  length_ = length;
}

void ContentModel::power_cut() {
  ++now_;
  if (resizing_to_) {
    lengths_.push_back({*std::exchange(resizing_to_, std::nullopt), kNever});
  }
  changes_.clear();
  reads_.clear();
  for (auto& [start, segment] : segments_) {
    for (Entry& entry : segment.entries) {
      entry.end = std::min(entry.end, now_);
      entry.superseded = kNever;
    }
  }
}

bool ContentModel::settle_length(uint64_t length) {
  const bool possible =
      length == length_ ||
      std::ranges::any_of(lengths_, [length](const auto& entry) { return entry.length == length; });
  lengths_.clear();
  length_ = length;
  return possible;
}

template <typename Found>
std::optional<std::string> ContentModel::match(uint64_t offset, std::span<const std::byte> data,
                                               Tick since, bool crashed, Found found) {
  const uint64_t end = offset + data.size();
  uint64_t position = offset;
  extend(end);
  split(offset);
  split(end);
  while (position < end) {
    const auto it = segments_.find(position);
    const auto next = std::next(it);
    const uint64_t stop = next == segments_.end() ? end_ : next->first;
    const auto rest = data.subspan(position - offset, stop - position);
    uint64_t longest = 0;
    Tick superseded = 0;
    WriteNumber number = 0;
    for (const Entry& entry : it->second.entries) {
      if (crashed ? entry.durably_gone : entry.superseded < since) {
        continue;
      }
      const uint64_t length = matching_prefix(entry.number, position, rest);
      // Short runs may be those of several writes: what later readers may see goes first.
      if (length > longest || (length == longest && entry.superseded > superseded)) {
        longest = length;
        superseded = entry.superseded;
        number = entry.number;
      }
    }
    if (longest == 0) {
      return complain(position, rest, it->second, since);
    }
    split(position + longest);
    found(segments_.find(position)->second, number);
    position += longest;
  }
  return std::nullopt;
}

std::optional<std::string> ContentModel::end_read(Handle handle, uint64_t offset,
                                                  std::span<const std::byte> data) {
  const Tick since = reads_.at(handle);
  ++now_;
  auto wrong = match(offset, data, since, false, [&](Segment& segment, WriteNumber number) {
    const bool quiet =
        segment.last_change < since &&
        std::ranges::none_of(segment.entries, [](const Entry& e) { return e.end == kNever; });
    for (Entry& entry : segment.entries) {
      if (quiet && entry.number != number) {
        entry.superseded = std::min(entry.superseded, now_);
      }
    }
  });
  reads_.erase(handle);
  return wrong;
}

std::optional<std::string> ContentModel::settle(uint64_t offset, std::span<const std::byte> data) {
  assert(changes_.empty() && reads_.empty());
  ++now_;
  return match(offset, data, 0, true, [&](Segment& segment, WriteNumber number) {
    segment.entries = {{.number = number}};
    segment.last_change = now_;
  });
}

void ContentModel::expected(uint64_t offset, std::span<std::byte> out) const {
  const uint64_t end = offset + out.size();
  auto it = std::prev(segments_.upper_bound(offset));
  for (uint64_t position = offset; position < end; ++it) {
    const auto next = std::next(it);
    const uint64_t stop = std::min(end, next == segments_.end() ? end_ : next->first);
    assert(it->second.entries.size() == 1);
    fill_pattern(it->second.entries.front().number, position,
                 out.subspan(position - offset, stop - position));
    position = stop;
  }
}

std::string ContentModel::complain(uint64_t offset, std::span<const std::byte> data,
                                   const Segment& segment, Tick since) const {
  std::string admissible;
  for (const Entry& entry : segment.entries) {
    admissible +=
        fmt::format("{}{}{}", admissible.empty() ? "" : ", ",
                    entry.number == kZeroes ? "zeroes" : fmt::format("write {}", entry.number),
                    entry.superseded < since ? " (overwritten)"
                    : entry.durably_gone     ? " (durably gone)"
                                             : "");
  }
  return fmt::format("at offset {} ({} bytes to look at): found {}; of the history: {}", offset,
                     data.size(), describe_data(offset, data), admissible);
}

}  // namespace cairn::testing
