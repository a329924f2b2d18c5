// Chat templates and pieces of Jinja render as in transformers (scripts/goldens/jinja.py).
#include <gtest/gtest.h>

#include "../../../src/text/jinja.h"
#include "kvlingua/base/error.h"
#include "support/text_goldens.h"

namespace kvlingua {
namespace {

using text::JinjaTemplate;

TEST(JinjaGolden, RendersAsTransformersDoes) {
  const auto folder = std::filesystem::path(KVLINGUA_TEST_DATA) / "text/chat_templates";
  size_t rows = 0;
  const auto data =
      nlohmann::ordered_json::parse(testing::slurp(folder.parent_path() / "jinja.json"));
  for (const auto& row : data["rows"]) {
    const auto name = row["name"].get<std::string>();
    const auto source = name.ends_with(".jinja") ? testing::slurp(folder / name)
                                                 : row["template"].get<std::string>();
    if (row["want"].is_null()) {
      EXPECT_THROW(JinjaTemplate(source).render(row["variables"]), Error) << name;
    } else {
      EXPECT_EQ(JinjaTemplate(source).render(row["variables"]), row["want"].get<std::string>())
          << name;
    }
    ++rows;
  }
  EXPECT_GT(rows, 60U);
}

TEST(Jinja, WorkDepthAndOutputAreBounded) {
  const nlohmann::ordered_json none = nlohmann::ordered_json::object();
  const auto deep = [](int n, const std::string& open, const std::string& close) {
    std::string text;
    for (int i = 0; i < n; ++i) text += open;
    text += "1";
    for (int i = 0; i < n; ++i) text += close;
    return text;
  };
  for (const std::string& source :
       {"{{ " + deep(100000, "(", ")") + " }}", "{{ " + deep(100000, "[", "]") + " }}",
        "{{ " + deep(100000, "-", "") + " }}", "{{ " + deep(100000, "not ", "") + " }}",
        deep(10000, "{% if 1 %}", "{% endif %}"),
        std::string("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
        std::string(
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"),
        std::string("{% set ns = namespace(x='0123456789') %}{% for i in range(60) %}"
                    "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}")}) {
    EXPECT_THROW(JinjaTemplate(source).render(none), Error) << source.substr(0, 40);
  }
}

TEST(Jinja, WhatIsNotUnderstoodIsNamed) {
  for (const auto& [source, named] : {std::pair{"{% raw %}{{ x }}{% endraw %}", "raw"},
                                      {"{{ 'a'.encode('x') }}", "encode"},
                                      {"{{ 1 | wordcount }}", "wordcount"},
                                      {"{% include 'x' %}", "include"},
                                      {"{{ ''.__class__ }}{{ x() }}", "x"},
                                      {"{{ 1 2 }}", "}}"}}) {
    try {
      JinjaTemplate(source).render(nlohmann::ordered_json::object());
      ADD_FAILURE() << source;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace kvlingua
