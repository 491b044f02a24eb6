// What commands there are and what arguments they take, as the daemon tells it.
#include "tools/ctl/help.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tools/ctl/arguments.h"
#include "tools/ctl/ctl.h"

namespace cairn::ctl {

namespace {

// One or the other; null and an exit code when there is no connection.
std::optional<DaemonSchema> schema_of(const Options& options, Exit& exit) {
  auto connection = connect(options);
  if (!connection) {
    exit = complain(Exit::kNoConnection, connection.error().message());
    return std::nullopt;
  }
  auto schema = fetch_schema(*connection);
  if (!schema) {
    exit = complain(Exit::kNoConnection, schema.error().message());
    return std::nullopt;
  }
  return std::move(*schema);
}

// Lays out the members of types; each type is laid out once, where it is met first.
class Layout {
 public:
  [[nodiscard]] std::string text(const SchemaType& type) {
    members(type, "", 1);
    return std::move(out_);
  }

 private:
  void line(const SchemaMember& member, const std::string& prefix, size_t depth) {
    const std::string indent(depth * 2, ' ');
    const SchemaType* inner = element(*member.type);
    const bool repeats = inner->kind == SchemaType::Kind::kObject && open_.contains(inner);
    out_ += fmt::format("{}{}{}  {}{}{}\n", indent, prefix + member.name,
                        member.optional ? "" : " (required)", kind_of(*member.type),
                        repeats ? ", as above" : "", "");
    if (!repeats) {
      below(*member.type, prefix + member.name + ".", depth + 1);
    }
  }

  // Of an array, the innermost.
  static const SchemaType* element(const SchemaType& type) {
    const SchemaType* inner = &type;
    while (inner->kind == SchemaType::Kind::kArray) {
      inner = inner->element;
    }
    return inner;
  }

  static std::string kind_of(const SchemaType& type) {
    if (type.kind == SchemaType::Kind::kArray) {
      return "list of: " + kind_of(*type.element);
    }
    return describe_type(type);
  }

  void below(const SchemaType& type, const std::string& prefix, size_t depth) {
    switch (type.kind) {
      case SchemaType::Kind::kArray:
        below(*type.element, prefix + "N.", depth);
        break;
      case SchemaType::Kind::kObject:
        members(type, prefix, depth);
        break;
      case SchemaType::Kind::kAlternate:
        for (const SchemaType* branch : type.branches) {
          below(*branch, prefix, depth);
        }
        break;
      case SchemaType::Kind::kBuiltin:
      case SchemaType::Kind::kEnum:
        break;
    }
  }

  void members(const SchemaType& type, const std::string& prefix, size_t depth) {
    if (!open_.insert(&type).second) {
      out_ += fmt::format("{}{}…  as above\n", std::string(depth * 2, ' '), prefix);
      return;
    }
    for (const SchemaMember& member : type.members) {
      line(member, prefix, depth);
    }
    for (const auto& [value, variant] : type.variants) {
      if (variant->members.empty() && variant->variants.empty()) {
        continue;
      }
      out_ +=
          fmt::format("{}with {}{}={}:\n", std::string(depth * 2, ' '), prefix, type.tag, value);
      if (seen_variants_.contains(variant)) {
        out_ += fmt::format("{}  as above\n", std::string(depth * 2, ' '));
        continue;
      }
      seen_variants_.insert(variant);
      for (const SchemaMember& member : variant->members) {
        line(member, prefix, depth + 1);
      }
    }
  }

  std::set<const SchemaType*> open_;
  std::set<const SchemaType*> seen_variants_;
  std::string out_;
};

bool is_empty(const SchemaType& type) {
  return type.kind == SchemaType::Kind::kObject && type.members.empty() && type.variants.empty();
}

}  // namespace

std::string usage_of(const SchemaCommand& command) {
  std::string line = command.name;
  for (const SchemaMember& member : command.arguments->members) {
    const std::string value = member.type->kind == SchemaType::Kind::kObject ? ".…=…" : "=…";
    line += member.optional ? fmt::format(" [{}{}]", member.name, value)
                            : fmt::format(" {}{}", member.name, value);
  }
  return line;
}

std::string describe_command(const SchemaCommand& command) {
  std::string text = usage_of(command) + "\n";
  if (!command.features.empty()) {
    text += fmt::format("Features: {}\n", fmt::join(command.features, ", "));
  }
  if (is_empty(*command.arguments)) {
    text += "\nIt takes no arguments.\n";
  } else {
    text += "\nArguments:\n" + Layout().text(*command.arguments);
  }
  if (!is_empty(*command.result)) {
    text += fmt::format("\nIt returns {}.\n", describe_type(*command.result));
  }
  return text;
}

Exit run_commands(const Options& options) {
  Exit exit = Exit::kOk;
  const auto schema = schema_of(options, exit);
  if (!schema) {
    return exit;
  }
  if (options.output != Output::kText) {
    schema::JsonArray names;
    for (const SchemaCommand& command : schema->commands()) {
      names.emplace_back(command.name);
    }
    print_value(names, "commands", options);
    return Exit::kOk;
  }
  for (const SchemaCommand& command : schema->commands()) {
    const std::string line = usage_of(command);
    fmt::print("{}\n", options.style.width > 0 ? cut(line, options.style.width) : line);
  }
  return Exit::kOk;
}

Exit run_help(const Options& options) {
  Exit exit = Exit::kOk;
  const auto schema = schema_of(options, exit);
  if (!schema) {
    return exit;
  }
  const std::string& name = options.words.front();
  if (const SchemaCommand* command = schema->find_command(name)) {
    fmt::print("{}", describe_command(*command));
    return Exit::kOk;
  }
  std::vector<std::string> names;
  for (const SchemaCommand& command : schema->commands()) {
    names.push_back(command.name);
  }
  const std::string guess = nearest(name, names);
  return complain(Exit::kUsage,
                  guess.empty()
                      ? fmt::format("There is no command '{}'", name)
                      : fmt::format("There is no command '{}'; did you mean '{}'?", name, guess));
}

}  // namespace cairn::ctl
