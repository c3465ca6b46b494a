export class RequestRefused extends Error {
  /** @param {{ code: string, detail: string, [field: string]: any }} error the fields of the `error` become its own */
  constructor(error) {
    super(`${error.code}: ${error.detail}`)
    const { type, request, ...fields } = error
    Object.assign(this, fields)
    this.code = error.code
    /** @type {number | undefined} the same request may succeed after that time */
    this.retry_after_ms = error.retry_after_ms
  }
}

export class ConnectionLost extends Error {}
