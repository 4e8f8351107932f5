// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICouncil} from "./ICouncil.sol";

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
    struct Quote {
        bytes32 invoice;
        bytes32 purpose;
        address merchant;
        address token;
        uint128 amount;
        uint16 shareBps;
        uint64 validUntil;
    }

    /// @notice What a deposit address is bound to for ever.
    struct Terms {
        bytes32 invoice;
        bytes32 purpose;
        address merchant;
        uint16 shareBps;
    }

    event Paid(
        bytes32 indexed invoice,
        bytes32 indexed quote,
        address indexed token,
        address payer,
        uint256 amount,
        uint256 cityAmount
    );
    event Flushed(
        bytes32 indexed invoice, address indexed deposit, address indexed token, uint256 amount, uint256 cityAmount
    );
    event Credited(address indexed merchant, address indexed token, uint256 amount);
    event Pulled(address indexed merchant, address indexed token, uint256 amount);

    error NotSeated(bytes32 role, address holder);
    error DirectSettlementOff(uint256 needed, uint256 found);
    error AssetNotAllowed(address token);
    error AssetNotInForce(uint64 validFrom, uint64 validTo, uint256 time);
    error QuoteExpired(uint64 validUntil, uint256 time);
    error QuoteUsed(bytes32 quote);
    error ShareTooSmall(uint256 least, uint256 found);
    error ShareTooLarge(uint256 most, uint256 found);
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
    /// @param v The signature of a gateway seat over the Quote in the Council's EIP-712 domain; so are r and s.
    function pay(Quote calldata quote, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Pay a quote with the chain's coin, to the unit.
    function payNative(Quote calldata quote, uint8 v, bytes32 r, bytes32 s) external payable;

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

    function isQuoteUsed(bytes32 quote) external view returns (bool);

    /// @notice What a merchant may pull.
    function credit(address merchant, address token) external view returns (uint256);

    function council() external view returns (ICouncil);

    function treasury() external view returns (address);

    /// @notice The code that every deposit address borrows.
    function implementation() external view returns (address);
}
