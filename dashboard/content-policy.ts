import { z } from "zod";

// zod compiles parsers with `new Function`, which the page's content security policy forbids. It decides when a
// schema is made, so main.tsx imports this module before anything that reaches protocol/.
z.config({ jitless: true });
