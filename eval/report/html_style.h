// The style sheet of report.html. Colours are variables, so light and dark are one set of rules.
#pragma once

namespace kvlingua::report {

inline constexpr const char* kStyle = R"css(
:root{--bg:#fbfbfa;--card:#fff;--ink:#1d1f23;--soft:#5c636e;--line:#e2e4e8;--accent:#2459c4;--good:#1c7c4a;--bad:#b3362b;--open:#8a6410;
--good-bg:#e3f3ea;--bad-bg:#fbe6e3;--open-bg:#fbf1d9;--track:#eceef2;--mark:#ffe28a;--mark-ink:#3b2f00;
--injected:#2459c4;--parametric:#d9822b;--both:#8e5bb5;--other:#a7adb8}
@media (prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1c1f25;--ink:#e7e9ee;--soft:#a0a8b5;--line:#30353e;--accent:#7aa5ff;--good:#6fd3a0;
--bad:#ff9387;--open:#f0c765;--good-bg:#173527;--bad-bg:#43201d;--open-bg:#3b3013;--track:#2a2f38;--mark:#6b5510;--mark-ink:#fff1c2;
--injected:#7aa5ff;--parametric:#f0a457;--both:#c198e6;--other:#6c7482}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;
-webkit-text-size-adjust:100%}
main{max-width:1080px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:1.6rem;line-height:1.25;margin:.2em 0;overflow-wrap:anywhere}h2{font-size:1.25rem;margin:2.2em 0 .6em;padding-top:.6em;border-top:1px solid var(--line)}
h3{font-size:1.02rem;margin:1.4em 0 .5em}
p{margin:.4em 0 .8em;max-width:72ch}p,li,.banner{overflow-wrap:anywhere}.soft{color:var(--soft);font-size:.9rem}code{font:.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.banner{background:var(--open-bg);color:var(--ink);border-left:4px solid var(--open);padding:.6em .9em;border-radius:4px;margin:1em 0}
.banner.plain{background:var(--track);border-color:var(--soft)}.banner.bad{background:var(--bad-bg);border-color:var(--bad)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(250px,1fr));gap:14px;margin:1em 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px;min-width:0}
.card h3{margin:0 0 .4em}.chip{display:inline-block;border-radius:99px;padding:.1em .7em;font-weight:650;font-size:.88rem}
.pass{background:var(--good-bg);color:var(--good)}.fail{background:var(--bad-bg);color:var(--bad)}.inconclusive{background:var(--open-bg);color:var(--open)}
.card .value{font-size:1.5rem;font-weight:650;font-variant-numeric:tabular-nums}.card ul{margin:.4em 0 0;padding-left:1.1em}
.plot{display:block;width:100%;height:auto}
.rows{display:grid;grid-template-columns:minmax(7.5em,max-content) minmax(90px,1fr) max-content;column-gap:12px;row-gap:5px;align-items:center;
font-variant-numeric:tabular-nums}
.rows .name{font-size:.9rem;overflow-wrap:anywhere}.rows .name.gated{font-weight:700;color:var(--accent)}.rows .num{font-size:.84rem;color:var(--soft);text-align:right;white-space:nowrap}
.rows svg{width:100%;height:18px;display:block;overflow:visible}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px;background:var(--card);margin:.8em 0;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:.42em .7em;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap;vertical-align:top}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--card)}tr:last-child td{border-bottom:0}th{font-weight:600;color:var(--soft)}
td.text,th.text{text-align:left;white-space:normal;min-width:15em;overflow-wrap:anywhere}tr.gated td{font-weight:650}
mark{background:var(--mark);color:var(--mark-ink);border-radius:3px;padding:0 .15em}mark.known{background:none;color:inherit;border-bottom:2px solid var(--parametric);border-radius:0}
.legend{display:flex;flex-wrap:wrap;gap:.3em 1.1em;font-size:.84rem;color:var(--soft);margin:.3em 0 .8em}.legend i{display:inline-block;width:.85em;height:.85em;border-radius:2px;margin-right:.4em;vertical-align:-1px}
.heat{display:grid;grid-template-columns:max-content minmax(0,1fr) max-content;gap:3px 10px;align-items:center;font-size:.82rem}
.heat svg{width:100%;height:18px;display:block}.heat .num{color:var(--soft);font-variant-numeric:tabular-nums;white-space:nowrap;text-align:right}
.ex{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;margin:12px 0}
.ex dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:3px 12px;margin:.5em 0 0;font-size:.9rem}.ex dt{color:var(--soft)}.ex dd{margin:0;overflow-wrap:anywhere}
.ex dt.gated{color:var(--accent);font-weight:700}
details summary{cursor:pointer;color:var(--soft)}.ex summary{color:var(--ink);font-weight:650}
@media (max-width:560px){main{padding:16px 12px 48px}.rows{grid-template-columns:minmax(0,6.6em) minmax(60px,1fr) max-content;column-gap:8px}.rows .name{font-size:.82rem}.rows .num{font-size:.76rem}
.heat{grid-template-columns:minmax(0,6.2em) minmax(0,1fr) max-content;gap:3px 8px;font-size:.76rem}.ex dl{grid-template-columns:minmax(0,1fr)}.ex dt{margin-top:.35em}
td.text,th.text{min-width:12em}}
@media print{body{background:#fff}.card,.ex,.scroll{break-inside:avoid}}
)css";

}  // namespace kvlingua::report
