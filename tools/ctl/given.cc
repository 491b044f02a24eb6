#include "tools/ctl/given.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "schema/json_stream.h"

namespace cairn::ctl {

namespace {

Given* find_member(Given& object, std::string_view name) {
  const auto at = std::ranges::find(object.members, name, &GivenMember::name);
  return at == object.members.end() ? nullptr : &at->value;
}

// Puts a value at the end of a dotted key. The same key again makes a list of both values.
Result<void> store(Given& root, std::string_view key, Given value) {
  Given* at = &root;
  std::string_view rest = key;
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view name = rest.substr(0, dot);
    if (name.empty()) {
      return fail(EINVAL, "'{}' has an empty part", key);
    }
    Given* next = find_member(*at, name);
    if (dot == rest.npos) {
      if (!next) {
        at->members.push_back({std::string(name), std::move(value)});
      } else if (next->kind == Given::Kind::kList) {
        next->elements.push_back(std::move(value));
      } else if (next->kind == Given::Kind::kObject) {
        return fail(EINVAL, "'{}' is given as a whole and in parts", key);
      } else {
        Given list{.kind = Given::Kind::kList};
        list.elements.push_back(std::move(*next));
        list.elements.push_back(std::move(value));
        *next = std::move(list);
      }
      return {};
    }
    if (!next) {
      at->members.push_back({std::string(name), Given()});
      next = &at->members.back().value;
    }
    if (next->kind != Given::Kind::kObject) {
      return fail(EINVAL, "'{}' is given as a whole and in parts",
                  key.substr(0, key.size() - rest.size() + dot));
    }
    at = next;
    rest.remove_prefix(dot + 1);
  }
}

}  // namespace

Given Given::of(const schema::JsonValue& value) {
  Given given;
  if (const auto* object = value.as_object()) {
    for (const auto& [name, held] : *object) {
      given.members.push_back({name, of(held)});
    }
  } else if (const auto* array = value.as_array()) {
    given.kind = Kind::kList;
    for (const auto& held : *array) {
      given.elements.push_back(of(held));
    }
  } else {
    given.kind = Kind::kScalar;
    given.scalar = value;
  }
  return given;
}

const std::string* Given::as_text() const {
  return kind == Kind::kWord ? &text : kind == Kind::kScalar ? scalar.as_string() : nullptr;
}

const Given* Given::find(std::string_view name) const {
  const auto at = std::ranges::find(members, name, &GivenMember::name);
  return at == members.end() ? nullptr : &at->value;
}

std::optional<std::vector<const Given*>> Given::as_list() const {
  std::vector<const Given*> list;
  if (kind == Kind::kList) {
    for (const Given& element : elements) {
      list.push_back(&element);
    }
    return list;
  }
  for (size_t i = 0; i < members.size(); ++i) {
    const Given* element = find(std::to_string(i));
    if (!element) {
      return std::nullopt;
    }
    list.push_back(element);
  }
  return kind == Kind::kObject && !list.empty() ? std::optional(std::move(list)) : std::nullopt;
}

schema::JsonValue Given::to_json() const {
  switch (kind) {
    case Kind::kWord:
      return text;
    case Kind::kScalar:
      return scalar;
    case Kind::kList: {
      schema::JsonArray array;
      for (const Given& element : elements) {
        array.push_back(element.to_json());
      }
      return array;
    }
    case Kind::kObject:
      break;
  }
  schema::JsonObject object;
  for (const auto& [name, value] : members) {
    object.add(name, value.to_json());
  }
  return object;
}

std::string Given::spelled() const {
  switch (kind) {
    case Kind::kWord:
      return fmt::format("'{}'", text);
    case Kind::kScalar:
      return schema::to_text(scalar);
    case Kind::kList:
      return "a list";
    case Kind::kObject:
      break;
  }
  return "an object";
}

Result<Given> gather(std::span<const std::string> words) {
  Given root;
  for (const std::string& word : words) {
    if (word.starts_with('{')) {
      auto parsed = schema::parse_json(word);
      if (!parsed) {
        return pass(parsed);
      }
      Given whole = Given::of(*parsed);
      if (whole.kind != Given::Kind::kObject) {
        return fail(EINVAL, "'{}' is no object", word);
      }
      for (auto& [name, value] : whole.members) {
        if (find_member(root, name)) {
          return fail(EINVAL, "'{}' is given twice", name);
        }
        root.members.push_back({std::move(name), std::move(value)});
      }
      continue;
    }
    const size_t equals = word.find('=');
    if (equals == word.npos || equals == 0) {
      return fail(EINVAL, "'{}' is no argument: arguments are written KEY=VALUE or as JSON", word);
    }
    Given value{.kind = Given::Kind::kWord, .text = word.substr(equals + 1)};
    auto stored = store(root, std::string_view(word).substr(0, equals), std::move(value));
    if (!stored) {
      return pass(stored);
    }
  }
  return root;
}

}  // namespace cairn::ctl
