// Commands about objects and the tree that they are in.
#include "monitor/handlers.h"
#include "monitor/qom.h"
#include "objects/registry.h"

namespace cairn::monitor {

HandlerResult<commands::ObjectAdd> handle(Services& services, commands::ObjectAdd,
                                          schema::ObjectOptions options) {
  co_return services.objects.add(options);
}

HandlerResult<commands::ObjectDel> handle(Services& services, commands::ObjectDel,
                                          schema::ObjectDelArguments arguments) {
  co_return services.objects.remove(arguments.id);
}

HandlerResult<commands::QomList> handle(Services& services, commands::QomList,
                                        schema::QomListArguments arguments) {
  auto node = QomNode::find(services, arguments.path);
  if (!node) {
    co_return pass(node);
  }
  co_return node->properties();
}

HandlerResult<commands::QomGet> handle(Services& services, commands::QomGet,
                                       schema::QomGetArguments arguments) {
  auto node = QomNode::find_owner(services, arguments.path);
  if (!node) {
    co_return pass(node);
  }
  co_return node->get(arguments.property);
}

HandlerResult<commands::QomSet> handle(Services& services, commands::QomSet,
                                       schema::QomSetArguments arguments) {
  auto node = QomNode::find_owner(services, arguments.path);
  if (!node) {
    co_return pass(node);
  }
  co_return node->set(arguments.property, arguments.value);
}

HandlerResult<commands::QomListGet> handle(Services& services, commands::QomListGet,
                                           schema::QomListGetArguments arguments) {
  std::vector<schema::ObjectPropertiesValues> result;
  for (const std::string& path : arguments.paths) {
    auto node = QomNode::find(services, path);
    if (!node) {
      co_return pass(node);
    }
    schema::ObjectPropertiesValues& entry = result.emplace_back();
    for (const schema::ObjectPropertyInfo& info : node->properties()) {
      schema::ObjectPropertyValue& property = entry.properties.emplace_back();
      property.name = info.name;
      property.type = info.type;
      if (auto value = node->get(info.name)) {
        property.value = std::move(*value);
      }
    }
  }
  co_return result;
}

HandlerResult<commands::QomListTypes> handle(Services&, commands::QomListTypes,
                                             schema::QomListTypesArguments arguments) {
  co_return list_qom_types(arguments.implements, arguments.abstract.value_or(false));
}

HandlerResult<commands::QomListProperties> handle(Services&, commands::QomListProperties,
                                                  schema::QomListPropertiesArguments arguments) {
  co_return list_qom_properties(arguments.typename_);
}

}  // namespace cairn::monitor
