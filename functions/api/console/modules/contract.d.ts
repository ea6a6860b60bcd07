/** What the API and the stream send, as far as the console reads it. Decimals are strings. */

export interface FieldError {
  field: string;
  message: string;
}

export interface ProblemDocument {
  detail?: string;
  message?: string;
  code?: string;
  requestId?: string;
  errors?: FieldError[];
}

export interface Failure {
  code: string;
  detail: string;
}

export interface Quote {
  dex: string;
  amountOut: string;
  price: string;
  feePct: string;
  priceImpactPct: string;
  liquidity: string;
}

export interface MissingQuote extends Failure {
  dex: string;
}

export interface Quotes {
  quotes: Quote[];
  missing: MissingQuote[];
  bestDex: string | null;
  tokenOut: string;
  timestamp: string;
}

export interface Trigger {
  venue: string;
  minLiquidity: string;
  maxPrice: string | null;
}

/** What a transition adds to an order; an event carries the same names. */
export interface Outcome {
  chosenDex?: string | null;
  quotes?: Quote[];
  quotedPrice?: string | null;
  minAmountOut?: string | null;
  txHash?: string | null;
  executedPrice?: string | null;
  amountOut?: string | null;
  realizedSlippageBps?: string | null;
  failure?: Failure | null;
}

export interface Order extends Outcome {
  orderId: string;
  userId: string;
  clientOrderId: string | null;
  type: string;
  status: string;
  seq: number;
  tokenIn: string;
  tokenOut: string;
  amountIn: string;
  slippageBps: number;
  maxRetries: number;
  priority: number;
  attempt: number;
  quotes: Quote[];
  limitPrice: string | null;
  trigger: Trigger | null;
  expiresAt: string | null;
  createdAt: string;
  updatedAt: string;
  warnings?: string[];
  /** While the order waits for its turn. */
  queue?: { ahead: number } | null;
}

export interface OrderEvent extends Outcome {
  type?: string;
  code?: string;
  orderId: string;
  status: string;
  seq: number;
  attempt: number;
  timestamp: string;
  reason?: string;
  final?: boolean;
}

export interface OrderPage {
  orders: Order[];
  nextCursor: string | null;
}

export interface Health {
  access: string;
}

/** The engine's own tables, which the server puts into the page. */
export interface Tables {
  statuses: Record<string, { meaning: string; next: string[] }>;
  orderTypes: Record<string, { rests: boolean; defaultSlippageBps: number }>;
  venues: string[];
  tokenDecimals: Record<string, number>;
  anonymousUser: string;
}
