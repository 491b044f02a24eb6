// DaemonSchema: what a daemon says that it understands, as query-qmp-schema tells it.
//
// Types have no names there that mean anything to people; they are known by what they hold.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "schema/json.h"

namespace cairn::ctl {

struct SchemaType;

struct SchemaMember {
  std::string name;
  const SchemaType* type;
  bool optional;
};

struct SchemaType {
  enum class Kind : uint8_t { kBuiltin, kEnum, kArray, kObject, kAlternate };

  Kind kind = Kind::kBuiltin;
  std::string json;                     // kBuiltin: string, int, number, boolean, null or value
  std::vector<std::string> values;      // kEnum
  const SchemaType* element = nullptr;  // kArray
  std::vector<SchemaMember> members;    // kObject
  // kObject: the member that says which variant has further members; empty when there is none.
  std::string tag;
  std::vector<std::pair<std::string, const SchemaType*>> variants;
  std::vector<const SchemaType*> branches;  // kAlternate

  [[nodiscard]] bool is(std::string_view builtin) const {
    return kind == Kind::kBuiltin && json == builtin;
  }
  [[nodiscard]] const SchemaMember* find_member(std::string_view name) const;
  // The type that has the members which come with this value of the tag; null when there is none.
  [[nodiscard]] const SchemaType* find_variant(std::string_view value) const;
  // Of all members, also those of variants.
  [[nodiscard]] std::vector<std::string> member_names() const;
};

struct SchemaCommand {
  std::string name;
  const SchemaType* arguments;
  const SchemaType* result;
  std::vector<std::string> features;
};

struct SchemaEvent {
  std::string name;
  const SchemaType* data;
};

class DaemonSchema {
 public:
  // Fails when `answer` contradicts itself.
  [[nodiscard]] static Result<DaemonSchema> parse(const schema::JsonValue& answer);

  // Both ordered by name.
  [[nodiscard]] const std::vector<SchemaCommand>& commands() const { return commands_; }
  [[nodiscard]] const std::vector<SchemaEvent>& events() const { return events_; }
  [[nodiscard]] const SchemaCommand* find_command(std::string_view name) const;

 private:
  [[nodiscard]] Result<void> fill_type(const schema::JsonObject& entity);
  [[nodiscard]] Result<void> fill_object(SchemaType& type, const schema::JsonObject& entity);
  // Null when `name` is no name of a type.
  [[nodiscard]] const SchemaType* type(const schema::JsonValue* name) const;

  std::map<std::string, std::unique_ptr<SchemaType>, std::less<>> types_;
  std::vector<SchemaCommand> commands_;
  std::vector<SchemaEvent> events_;
};

// The one of `known` that somebody who wrote `name` may have meant; empty when none is near.
[[nodiscard]] std::string nearest(std::string_view name, const std::vector<std::string>& known);

}  // namespace cairn::ctl
