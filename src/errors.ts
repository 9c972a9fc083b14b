/**
 * The catalogue of errors: every code that a client can meet, with its status and its title. Domain code throws a
 * `Problem` with a code; one handler (plugins/problems.ts) writes it as RFC 9457 problem details.
 */

export const catalogue = {
  malformed_body: { status: 400, title: 'The body cannot be read' },
  invalid_parameter: { status: 400, title: 'A parameter is not valid' },
  unauthenticated: { status: 401, title: 'A token is needed' },
  forbidden: { status: 403, title: 'The token does not allow this' },
  worker_quarantined: { status: 403, title: 'The worker is quarantined' },
  session_not_found: { status: 404, title: 'There is no such session' },
  variable_not_found: { status: 404, title: 'There is no such variable' },
  checkpoint_not_found: { status: 404, title: 'There is no such checkpoint' },
  route_not_found: { status: 404, title: 'There is nothing at this address' },
  method_not_allowed: { status: 405, title: 'This address does not take that method' },
  not_acceptable: { status: 406, title: 'The reply cannot be given in that form' },
  request_timeout: { status: 408, title: 'The request took too long to come' },
  session_exists: { status: 409, title: 'The session exists already' },
  gradient_stale: { status: 409, title: 'The gradient is stale' },
  iteration_unavailable: { status: 409, title: 'That iteration is out of reach' },
  checkpoint_in_use: { status: 409, title: 'The checkpoint is still needed' },
  precondition_failed: { status: 412, title: 'The session is at another revision' },
  body_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The body has an unknown format' },
  range_not_satisfiable: { status: 416, title: 'The range lies outside the file' },
  invalid_argument: { status: 422, title: 'A value is not allowed' },
  unknown_variable: { status: 422, title: 'The session has no such variable' },
  shape_mismatch: { status: 422, title: 'A shape does not fit' },
  dtype_mismatch: { status: 422, title: 'A dtype does not fit' },
  index_out_of_range: { status: 422, title: 'An index is out of range' },
  gradient_not_finite: { status: 422, title: 'A gradient is not finite' },
  idempotency_key_reused: { status: 422, title: 'The idempotency key was used for another request' },
  headers_too_large: { status: 431, title: 'The header is too large' },
  rate_limited: { status: 429, title: 'Too many requests' },
  session_quota_exceeded: { status: 429, title: 'Too many sessions' },
  internal: { status: 500, title: 'The server failed' },
  overloaded: { status: 503, title: 'The server is overloaded' },
  aggregation_timeout: { status: 503, title: 'The other workers did not come' },
  shutting_down: { status: 503, title: 'The server is shutting down' },
  recovering: { status: 503, title: 'The server is recovering its sessions' },
  storage_failed: { status: 503, title: 'The disk failed' },
  insufficient_memory: { status: 507, title: 'There is not enough memory' },
  insufficient_storage: { status: 507, title: 'There is not enough disk space' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ProblemCode = keyof typeof catalogue;

/** One of several things that are wrong: a JSON pointer into the body (or a tensor's name) and what its rule is. */
export interface ProblemItem {
  pointer: string;
  detail: string;
}

export interface ProblemOptions {
  errors?: ProblemItem[];
  /** `false`: nothing was changed. `true`: all was, only the reply failed. `'unknown'`: only a retry can tell. */
  applied?: boolean | 'unknown';
  headers?: Record<string, string>;
  /** Where the session stands, for who is behind it. */
  iterations?: number;
  cause?: unknown;
}

/** An error meant for the client. `detail` states the rule, then what came: `… must be …. Received: …`. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;
  readonly status: number;
  readonly errors: ProblemItem[] | undefined;
  readonly applied: boolean | 'unknown';
  readonly headers: Record<string, string>;
  readonly iterations: number | undefined;

  constructor(code: ProblemCode, detail: string, options: ProblemOptions = {}) {
    super(detail, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.status = catalogue[code].status;
    this.errors = options.errors;
    this.applied = options.applied ?? false;
    this.headers = options.headers ?? {};
    this.iterations = options.iterations;
  }
}

/** To who comes, or waits, while the server ends. */
export function shuttingDown(): Problem {
  return new Problem('shutting_down', 'a request must be over before the server shuts down. It is shutting down', {
    headers: { 'retry-after': '5' },
  });
}
