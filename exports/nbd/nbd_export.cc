#include "exports/nbd/nbd_export.h"

#include <algorithm>
#include <utility>

#include "exports/nbd/connection.h"

namespace cairn::nbd {

void ExportList::remove(NbdExport& entry) { std::erase(entries_, &entry); }

NbdExport* ExportList::find(std::string_view name) const {
  const auto found = std::ranges::find_if(
      entries_, [name](const NbdExport* entry) { return entry->name() == name; });
  return found == entries_.end() ? nullptr : *found;
}

bool ExportList::find(std::string_view name, ExportOffer& offer) const {
  const NbdExport* entry = find(name);
  if (entry != nullptr) {
    offer = entry->offer();
  }
  return entry != nullptr;
}

std::vector<ExportOffer> ExportList::list() const {
  std::vector<ExportOffer> offers;
  offers.reserve(entries_.size());
  for (const NbdExport* entry : entries_) {
    offers.push_back(entry->offer());
  }
  return offers;
}

NbdExport::NbdExport(ExportList& list, exports::ExportSettings settings,
                     std::unique_ptr<block::Edge> root, std::string name, std::string description)
    : Export("nbd", std::move(settings), std::move(root)),
      list_(list),
      name_(std::move(name)),
      description_(std::move(description)) {
  list_.add(*this);
}

NbdExport::~NbdExport() {
  if (listed_) {
    list_.remove(*this);
  }
}

ExportOffer NbdExport::offer() const {
  ExportOffer offer;
  offer.name = name_;
  offer.description = description_;
  offer.size = root().length();
  offer.flags = kHasFlags | kSendFlush | kSendFua | kSendCache;
  offer.flags |= writable() ? kSendTrim | kSendWriteZeroes | kSendFastZero : kReadOnly;
  // All connections go through the same node, so that a flush on one covers the others.
  offer.flags |= list_.multi_conn() ? kCanMultiConn : 0;
  offer.alignment = node().driver().limits().request_alignment;
  return offer;
}

bool NbdExport::enter(Connection& connection) {
  if (!listed_) {
    return false;
  }
  users_.push_back(&connection);
  return true;
}

void NbdExport::leave(Connection& connection) {
  std::erase(users_, &connection);
  if (users_.empty() && !listed_) {
    unused_.set();
  }
}

io::Task<void> NbdExport::close() {
  list_.remove(*this);
  listed_ = false;
  for (Connection* user : users_) {
    user->stop();
  }
  while (!users_.empty()) {
    co_await unused_.wait();
  }
}

}  // namespace cairn::nbd
