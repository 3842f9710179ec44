import type { MiddlewareHandler } from "hono";
import { secureHeaders } from "hono/secure-headers";

/** @param coordinatorUrls HTTP addresses of all coordinators: a page whose own one is gone looks whether another is there */
export const pageHeaders = (coordinatorUrls: () => readonly string[]): MiddlewareHandler => {
  return (c, next) =>
    secureHeaders({
      contentSecurityPolicy: {
        defaultSrc: ["'self'"],
        styleSrc: ["'self'", "'unsafe-inline'"],
        connectSrc: ["'self'", ...coordinatorUrls()],
        frameAncestors: ["'none'"],
      },
      // Pages of the other coordinators may notice that this one answers, and read nothing.
      crossOriginResourcePolicy: c.req.path === "/healthz" ? "cross-origin" : "same-origin",
    })(c, next);
};
