// The rules for limits that go together are those of the field, in its words and its order.
#include "objects/throttle_group.h"

#include <cerrno>
#include <cstdint>
#include <iterator>
#include <optional>
#include <utility>

#include "objects/property.h"
#include "objects/registry.h"
#include "objects/types.h"
#include "schema/visit_qom.h"

namespace cairn::objects {

namespace {

using Limits = schema::ThrottleLimits;
using Options = schema::ThrottleGroupProperties;
using Number = std::optional<int64_t>;

constexpr int64_t kMostValue = 1000000000000000;

// One kind of limit: so many a second, more in a burst, for so many seconds.
struct Bucket {
  std::string_view name;
  Number Limits::* average;
  Number Limits::* most;
  Number Limits::* length;
};

// Total, read and write for requests, then the same for bytes.
constexpr Bucket kBuckets[] = {
    {"iops-total", &Limits::iops_total, &Limits::iops_total_max, &Limits::iops_total_max_length},
    {"iops-read", &Limits::iops_read, &Limits::iops_read_max, &Limits::iops_read_max_length},
    {"iops-write", &Limits::iops_write, &Limits::iops_write_max, &Limits::iops_write_max_length},
    {"bps-total", &Limits::bps_total, &Limits::bps_total_max, &Limits::bps_total_max_length},
    {"bps-read", &Limits::bps_read, &Limits::bps_read_max, &Limits::bps_read_max_length},
    {"bps-write", &Limits::bps_write, &Limits::bps_write_max, &Limits::bps_write_max_length},
};

// Members of the group's options that stand for one of its limits.
struct Unstable {
  std::string_view name;
  Number Limits::* limit;
  Number Options::* option;
};

constexpr Unstable kUnstable[] = {
    {"x-iops-total", &Limits::iops_total, &Options::x_iops_total},
    {"x-iops-total-max", &Limits::iops_total_max, &Options::x_iops_total_max},
    {"x-iops-total-max-length", &Limits::iops_total_max_length, &Options::x_iops_total_max_length},
    {"x-iops-read", &Limits::iops_read, &Options::x_iops_read},
    {"x-iops-read-max", &Limits::iops_read_max, &Options::x_iops_read_max},
    {"x-iops-read-max-length", &Limits::iops_read_max_length, &Options::x_iops_read_max_length},
    {"x-iops-write", &Limits::iops_write, &Options::x_iops_write},
    {"x-iops-write-max", &Limits::iops_write_max, &Options::x_iops_write_max},
    {"x-iops-write-max-length", &Limits::iops_write_max_length, &Options::x_iops_write_max_length},
    {"x-bps-total", &Limits::bps_total, &Options::x_bps_total},
    {"x-bps-total-max", &Limits::bps_total_max, &Options::x_bps_total_max},
    {"x-bps-total-max-length", &Limits::bps_total_max_length, &Options::x_bps_total_max_length},
    {"x-bps-read", &Limits::bps_read, &Options::x_bps_read},
    {"x-bps-read-max", &Limits::bps_read_max, &Options::x_bps_read_max},
    {"x-bps-read-max-length", &Limits::bps_read_max_length, &Options::x_bps_read_max_length},
    {"x-bps-write", &Limits::bps_write, &Options::x_bps_write},
    {"x-bps-write-max", &Limits::bps_write_max, &Options::x_bps_write_max},
    {"x-bps-write-max-length", &Limits::bps_write_max_length, &Options::x_bps_write_max_length},
    {"x-iops-size", &Limits::iops_size, &Options::x_iops_size},
};

// Totals and what they are the total of exclude each other.
bool conflicts(const Limits& limits, Number Limits::* Bucket::* what) {
  for (const size_t first : {0, 3}) {
    const auto is_set = [&](size_t index) { return *(limits.*(kBuckets[index].*what)) != 0; };
    if (is_set(first) && (is_set(first + 1) || is_set(first + 2))) {
      return true;
    }
  }
  return false;
}

Result<void> check_bucket(const Limits& limits, const Bucket& bucket) {
  const int64_t average = *(limits.*bucket.average);
  const int64_t most = *(limits.*bucket.most);
  const int64_t length = *(limits.*bucket.length);
  if (average < 0 || most < 0 || average > kMostValue || most > kMostValue) {
    return fail(EINVAL, "bps/iops/max values must be within [0, {}]", kMostValue);
  }
  if (length == 0) {
    return fail(EINVAL, "the burst length cannot be 0");
  }
  if (length > 1 && most == 0) {
    return fail(EINVAL, "burst length set without burst rate");
  }
  if (most != 0 && length > kMostValue / most) {
    return fail(EINVAL, "burst length too high for this burst rate");
  }
  if (most != 0 && average == 0) {
    return fail(EINVAL, "bps_max/iops_max require corresponding bps/iops values");
  }
  if (most != 0 && most < average) {
    return fail(EINVAL, "bps_max/iops_max cannot be lower than bps/iops");
  }
  return {};
}

Result<void> check(const Limits& limits) {
  const bool counts_requests =
      *limits.iops_total != 0 || *limits.iops_read != 0 || *limits.iops_write != 0;
  if (*limits.iops_size != 0 && !counts_requests) {
    return fail(EINVAL, "iops size requires an iops value to be set");
  }
  if (*limits.iops_size < 0) {
    return fail(EINVAL, "iops-size value must be in the range [0, {}]", INT64_MAX);
  }
  if (conflicts(limits, &Bucket::average) || conflicts(limits, &Bucket::most)) {
    return fail(EINVAL,
                "bps/iops/max total values and read/write values cannot be used at the same time");
  }
  for (const Bucket& bucket : kBuckets) {
    if (auto checked = check_bucket(limits, bucket); !checked) {
      return checked;
    }
  }
  return {};
}

// `value` may be left out.
Result<void> check_length(std::string_view name, Number value) {
  if (value && (*value < 0 || *value > UINT32_MAX)) {
    return fail(EINVAL, "{}-max-length value must be in the range [0, {}]", name, UINT32_MAX);
  }
  return {};
}

// Takes over the members that `changes` has.
void merge(Limits& limits, const Limits& changes) {
  for (const Unstable& entry : kUnstable) {
    if (const Number& value = changes.*entry.limit) {
      limits.*entry.limit = value;
    }
  }
}

// What io/ makes of them.
io::ThrottleLimits rates(const Limits& limits) {
  io::RateLimit rate[std::size(kBuckets)];
  for (size_t i = 0; i < std::size(kBuckets); ++i) {
    const auto number = [&](Number Limits::* member) {
      return static_cast<double>(*(limits.*member));
    };
    rate[i] = {.average = number(kBuckets[i].average),
               .burst = number(kBuckets[i].most),
               .burst_seconds = number(kBuckets[i].length)};
  }
  return {.requests = {.total = rate[0], .read = rate[1], .write = rate[2]},
          .bytes = {.total = rate[3], .read = rate[4], .write = rate[5]},
          .request_size = static_cast<uint64_t>(*limits.iops_size)};
}

template <auto Field>
constexpr Property unstable(std::string_view name) {
  return {.name = name,
          .type = "int",
          .get =
              [](const Object& object) {
                const auto& group = static_cast<const ThrottleGroup&>(object);
                return schema::JsonValue(*(group.limits().*Field));
              },
          .set = [](Object&, std::string_view, const schema::JsonValue&) -> Result<void> {
            return fail(EINVAL, "Property cannot be set after initialization");
          }};
}

}  // namespace

const Property ThrottleGroup::kProperties[] = {
    {.name = "limits",
     .type = "ThrottleLimits",
     .get =
         [](const Object& object) {
           return to_json(static_cast<const ThrottleGroup&>(object).limits_);
         },
     .set = [](Object& object, std::string_view name,
               const schema::JsonValue& value) -> Result<void> {
       auto limits = decode_property<Limits>(name, value);
       if (!limits) {
         return pass(limits);
       }
       return static_cast<ThrottleGroup&>(object).change(*limits);
     }},
    unstable<&Limits::iops_total>("x-iops-total"),
    unstable<&Limits::iops_total_max>("x-iops-total-max"),
    unstable<&Limits::iops_total_max_length>("x-iops-total-max-length"),
    unstable<&Limits::iops_read>("x-iops-read"),
    unstable<&Limits::iops_read_max>("x-iops-read-max"),
    unstable<&Limits::iops_read_max_length>("x-iops-read-max-length"),
    unstable<&Limits::iops_write>("x-iops-write"),
    unstable<&Limits::iops_write_max>("x-iops-write-max"),
    unstable<&Limits::iops_write_max_length>("x-iops-write-max-length"),
    unstable<&Limits::bps_total>("x-bps-total"),
    unstable<&Limits::bps_total_max>("x-bps-total-max"),
    unstable<&Limits::bps_total_max_length>("x-bps-total-max-length"),
    unstable<&Limits::bps_read>("x-bps-read"),
    unstable<&Limits::bps_read_max>("x-bps-read-max"),
    unstable<&Limits::bps_read_max_length>("x-bps-read-max-length"),
    unstable<&Limits::bps_write>("x-bps-write"),
    unstable<&Limits::bps_write_max>("x-bps-write-max"),
    unstable<&Limits::bps_write_max_length>("x-bps-write-max-length"),
    unstable<&Limits::iops_size>("x-iops-size"),
};
const Type ThrottleGroup::kType = {.name = "throttle-group",
                                   .parent = &kObjectType,
                                   .properties = kProperties,
                                   .implements = &kUserCreatableType,
                                   .option = "throttle-group"};

ThrottleGroup::ThrottleGroup(std::string id) : Object(kType, std::move(id)) {
  for (const Unstable& entry : kUnstable) {
    limits_.*entry.limit = entry.name.ends_with("-length") ? 1 : 0;
  }
}

Result<void> ThrottleGroup::change(const Limits& limits) {
  for (const Bucket& bucket : kBuckets) {
    if (auto checked = check_length(bucket.name, limits.*bucket.length); !checked) {
      return checked;
    }
  }
  Limits merged = limits_;
  merge(merged, limits);
  if (auto checked = check(merged); !checked) {
    return checked;
  }
  limits_ = merged;
  throttle_->set(rates(merged));
  return {};
}

Result<std::shared_ptr<Object>> ThrottleGroup::make(std::string id, const Options& options) {
  Limits wanted;
  for (const auto& [name, limit, option] : kUnstable) {
    const Number& value = options.*option;
    if (value && *value < 0) {
      return fail(EINVAL, "Property values cannot be negative");
    }
    if (value && name.ends_with("-length") && *value > UINT32_MAX) {
      return fail(EINVAL, "{} value must be in the range [0, {}]", name, UINT32_MAX);
    }
    wanted.*limit = value;
  }
  merge(wanted, options.limits.value_or(Limits()));
  auto group = std::make_shared<ThrottleGroup>(std::move(id));
  if (auto changed = group->change(wanted); !changed) {
    return pass(changed);
  }
  return group;
}

std::shared_ptr<io::Throttle> find_throttle(const Registry& registry, std::string_view id) {
  const auto group = std::dynamic_pointer_cast<ThrottleGroup>(registry.find(id));
  return group != nullptr ? group->throttle() : nullptr;
}

}  // namespace cairn::objects
