#include "jobs/amend_job.h"

#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "block/create_options.h"
#include "block/driver_table.h"

namespace cairn::jobs {
namespace {

using schema::QCryptoBlockAmendOptionsLUKS;

// By the names that command lines know the options by.
Result<void> set_amendment(block::CreateOptions& options, const std::string& prefix,
                           const QCryptoBlockAmendOptionsLUKS& wanted) {
  Result<void> result = options.set(prefix + "state", schema::to_string(wanted.state));
  const auto set = [&](std::string_view name, const std::optional<std::string>& value) {
    if (result && value) {
      result = options.set(prefix + std::string(name), *value);
    }
  };
  const auto text = [](const std::optional<int64_t>& number) {
    return number ? std::optional(std::to_string(*number)) : std::nullopt;
  };
  set("new-secret", wanted.new_secret);
  set("old-secret", wanted.old_secret);
  set("keyslot", text(wanted.keyslot));
  set("iter-time", text(wanted.iter_time));
  set("secret", wanted.secret);
  return result;
}

// What the options say of LUKS; null when that is nothing.
const QCryptoBlockAmendOptionsLUKS* luks_part(const schema::BlockdevAmendOptions& options) {
  if (const auto* luks = std::get_if<schema::BlockdevAmendOptionsLUKS>(&options.branch)) {
    return luks;
  }
  const auto* qcow2 = std::get_if<schema::BlockdevAmendOptionsQcow2>(&options.branch);
  return qcow2 != nullptr && qcow2->encrypt
             ? std::get_if<QCryptoBlockAmendOptionsLUKS>(&qcow2->encrypt->branch)
             : nullptr;
}

// Only LUKS can be changed.
bool names_other_encryption(const schema::BlockdevAmendOptions& options) {
  const auto* qcow2 = std::get_if<schema::BlockdevAmendOptionsQcow2>(&options.branch);
  return qcow2 != nullptr && qcow2->encrypt &&
         qcow2->encrypt->format != schema::QCryptoBlockFormat::kLuks;
}

}  // namespace

bool AmendJob::possible(const schema::BlockdevAmendOptions& options) {
  return options.driver == schema::BlockdevAmendDriver::kQcow2 ||
         options.driver == schema::BlockdevAmendDriver::kLuks;
}

io::Task<Result<void>> AmendJob::run() {
  set_total(1);
  Result<void> result = co_await amend();
  node_.reset();
  add_done(1);
  co_return result;
}

io::Task<Result<void>> AmendJob::amend() {
  if (names_other_encryption(options_)) {
    co_return fail(ENOTSUP, "Only LUKS encryption options can be amended");
  }
  const QCryptoBlockAmendOptionsLUKS* luks = luks_part(options_);
  if (luks == nullptr) {
    co_return Result<void>{};
  }
  if (!node_->driver().encrypted()) {
    co_return fail(ENOTSUP, "image is not encrypted, can't amend");
  }
  const bool is_luks = options_.driver == schema::BlockdevAmendDriver::kLuks;
  const auto known = node_->info().amend_options;
  std::vector<block::CreateOptionInfo> table(known.begin(), known.end());
  table.push_back({.name = is_luks ? "secret" : "encrypt.secret"});
  block::CreateOptions options(table);
  options.set_forced(force_);
  std::string prefix = is_luks ? "" : "encrypt.";
  Result<void> result = set_amendment(options, prefix, *luks);
  if (!result) {
    co_return result;
  }
  auto edge = graph_.attach(
      node_, "job '" + id() + "'",
      {block::PermissionSet::kWrite | block::PermissionSet::kResize, block::PermissionSet::all()});
  if (!edge) {
    co_return pass(edge);
  }
  result = co_await (*edge)->amend(options);
  Result<void> detached = co_await graph_.detach(std::move(*edge));
  co_return result ? std::move(detached) : std::move(result);
}

}  // namespace cairn::jobs
