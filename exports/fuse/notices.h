// Notices to the kernel about what it remembers of the file (<linux/fuse.h>, FUSE_NOTIFY_*).
#pragma once

namespace cairn::fuse {

// The file's size or another attribute has changed: whoever needs it next asks. Never waits.
void forget_attributes(int descriptor);

// The content that the kernel holds, too. It first writes out what was changed in mapped memory, so
// that this waits for requests to be answered: on another thread than the one that answers them.
void forget_content(int descriptor);

}  // namespace cairn::fuse
