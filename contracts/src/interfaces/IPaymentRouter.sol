// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title IPaymentRouter
/// @notice Splits each payment in the transaction that makes it: the city's share to the Treasury, the rest to the
/// merchant. It keeps nothing but what a merchant could not receive.
/// @dev Assumes that a gateway seat signs a quote only for an invoice of its own, and that allowed tokens move what they
/// are told to; one that takes a fee on the way is refused in `pay`.
/// WARNING: anybody can make terms with any invoice in them, and flush a worthless token. A Flushed event pays an
/// invoice only if its deposit address is the one that the gateway gave for it, and its token one that the Council allows.
/// WARNING: after the first flush a deposit address is a contract. Coin sent to it with 2,300 gas or less does not arrive.
interface IPaymentRouter {
    /// @param invoice What is paid.
    /// @param purpose The code whose revenue rule gives the city's least share.
    /// @param merchant Who gets the rest; may be zero if the city gets all.
    /// @param token Money.COIN for the chain's coin.
    /// @param shareBps The city's share in 1/10,000; what does not divide goes to the city.
    /// @param nonce Of two quotes of one gateway for one token and purpose with the same nonce one can be paid. Quotes
    /// whose nonces differ in the last seven bits only share a word of storage, so a gateway counts.
    struct Quote {
        bytes32 invoice;
        bytes32 purpose;
        address merchant;
        address token;
        uint256 amount;
        uint256 shareBps;
        uint256 validUntil;
        uint256 nonce;
    }

    /// @notice What a deposit address is bound to for ever.
    struct Terms {
        bytes32 invoice;
        bytes32 purpose;
        address merchant;
        uint16 shareBps;
    }

    /// @notice What EIP-2612 wants to see of the sender's permit.
    struct Permit {
        uint256 value;
        uint256 deadline;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    /// @notice Who pays by EIP-3009, and that payer's signature; the rest of it follows from the quote.
    struct Authorization {
        address from;
        uint8 v;
        bytes32 r;
        bytes32 s;
    }

    /// @notice Who pays by Permit2, with which of its nonces, and that payer's signature.
    struct Permit2 {
        address from;
        uint256 nonce;
        bytes signature;
    }

    event Paid(bytes32 indexed invoice, address indexed token, uint256 amount, uint256 cityAmount);
    event Flushed(
        bytes32 indexed invoice, address indexed deposit, address indexed token, uint256 amount, uint256 cityAmount
    );
    event Credited(address indexed merchant, address indexed token, uint256 amount);
    event Pulled(address indexed merchant, address indexed token, uint256 amount);

    error NotSeated(bytes32 role, address holder);
    error DirectSettlementOff(uint256 needed, uint256 found);
    error AssetNotAllowed(address token);
    error AssetNotInForce(uint64 validFrom, uint64 validTo, uint256 time);
    error QuoteExpired(uint256 validUntil, uint256 time);
    error QuoteUsed(bytes32 quote);
    error ShareTooSmall(uint256 least, uint256 found);
    error ShareTooLarge(uint256 most, uint256 found);
    error AmountTooLarge(uint256 most, uint256 found);
    error AmountIsZero(bytes32 invoice);
    error MerchantNotAllowed(address merchant);
    error TokenIsCoin(address token);
    error TokenNotCoin(address token);
    error WrongValue(uint256 quoted, uint256 sent);
    error AmountDiffers(address holder, uint256 expected, uint256 received);
    error NotReceived(address holder, address token);
    error NothingCredited(address merchant, address token);
    error CoinNotExpected(address sender);

    /// @notice Pay a quote with a token that the sender allowed this contract to take. Anybody may pay any quote, once.
    /// @param r The compact signature (EIP-2098), with vs, of a gateway seat over the Quote in the Council's EIP-712 domain.
    function pay(Quote calldata quote, bytes32 r, bytes32 vs) external;

    /// @notice The same, after showing the token the sender's EIP-2612 permit; if the token does not take it, the
    /// allowance there is decides.
    function payWithPermit(Quote calldata quote, bytes32 r, bytes32 vs, Permit calldata permit) external;

    /// @notice Pay a quote with an EIP-3009 authorization of the payer, whoever sends it: ReceiveWithAuthorization of
    /// the whole amount to this contract, from second 0 to before validUntil + 1, with the quote's hash as its nonce.
    function payWithAuthorization(Quote calldata quote, bytes32 r, bytes32 vs, Authorization calldata payer) external;

    /// @notice Pay a quote with a Permit2 signature of the payer, whoever sends it: PermitBatchWitnessTransferFrom with
    /// two permissions, the city's part and the rest, this contract as the spender, validUntil as the deadline and the
    /// Quote as the witness.
    function payWithPermit2(Quote calldata quote, bytes32 r, bytes32 vs, Permit2 calldata payer) external;

    /// @notice Pay a quote with the chain's coin, to the unit.
    function payNative(Quote calldata quote, bytes32 r, bytes32 vs) external payable;

    /// @notice Split all of a token that stands at each of these deposit addresses; an empty one is passed over, so that
    /// nobody spoils a batch by flushing one of it first. Anybody may call, for any token.
    function flush(Terms[] calldata terms, address token) external;

    /// @notice Send a merchant what it could not receive. Anybody may call.
    function pull(address merchant, address token) external;

    /// @notice Where to send money under these terms.
    function depositAddress(Terms calldata terms) external view returns (address);

    /// @notice What a deposit address's salt is.
    function termsHash(Terms calldata terms) external pure returns (bytes32);

    /// @notice The hashStruct of a quote, by which Paid names it.
    function quoteHash(Quote calldata quote) external pure returns (bytes32);

    /// @notice Whether the quote of this gateway, or another with its nonce, was paid.
    function isQuoteUsed(address gateway, Quote calldata quote) external view returns (bool);

    /// @notice What a merchant may pull.
    function credit(address merchant, address token) external view returns (uint256);

    function treasury() external view returns (address);

    /// @notice The code that every deposit address borrows.
    function implementation() external view returns (address);
}
