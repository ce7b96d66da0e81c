// Draws the plan of this page, which stands in it as JSON, in the theme of the reader's system.
"use strict";
const { query, plan } = JSON.parse(document.getElementById("plan").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => { document.documentElement.dataset.bsTheme = dark.matches ? "dark" : "light"; };
dark.addEventListener("change", follow);
follow();
// pev2 takes some names for HTML. With a word joiner behind its < a tag is none, and reads as before; no operator is touched.
const source = JSON.stringify([plan], null, 2).replace(/<(?=[a-z/!?])/gi, "<\u2060");
Vue.createApp({ render: () => Vue.h(pev2.Plan, { planSource: source, planQuery: query }) }).mount("#app");
