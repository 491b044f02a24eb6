#include "exports/nbd/nbd_export.h"

#include <algorithm>
#include <utility>

#include "exports/nbd/connection.h"
#include "exports/nbd/station.h"

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
                     std::unique_ptr<block::Edge> root, NbdView view,
                     std::shared_ptr<Station> station)
    : Export("nbd", std::move(settings), std::move(root)),
      list_(list),
      view_(std::move(view)),
      station_(std::move(station)) {
  list_.add(*this);
}

NbdExport::~NbdExport() {
  if (listed_) {
    list_.remove(*this);
  }
}

ExportOffer NbdExport::offer() const {
  ExportOffer offer;
  offer.name = view_.name;
  offer.description = view_.description;
  offer.size = root().length();
  offer.flags = kHasFlags | kSendFlush | kSendFua | kSendCache;
  offer.flags |= writable() ? kSendTrim | kSendWriteZeroes | kSendFastZero : kReadOnly;
  // All connections go through the same node, so that a flush on one covers the others.
  offer.flags |= list_.multi_conn() ? kCanMultiConn : 0;
  offer.alignment = node().driver().limits().request_alignment;
  offer.allocation_depth = view_.allocation_depth;
  for (const ExportedBitmap& entry : view_.bitmaps) {
    offer.bitmaps.push_back(entry.bitmap->name());
  }
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
  std::vector<ExportedBitmap> bitmaps = std::move(view_.bitmaps);
  view_.bitmaps.clear();
  while (!bitmaps.empty()) {
    std::unique_ptr<block::Edge> holder = std::move(bitmaps.back().holder);
    bitmaps.pop_back();
    // Nothing was written through it.
    static_cast<void>(co_await node().graph().detach(std::move(holder)));
  }
}

}  // namespace cairn::nbd
