// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Names
/// @notice The names that contracts know: ASCII at the left, zeros after it. The same tables as in ledger/rules.py.
library Names {
    bytes32 internal constant COUNCIL = "council";
    bytes32 internal constant AUTHORITY = "authority";
    bytes32 internal constant CERTIFIER = "certifier";
    bytes32 internal constant AUDITOR = "auditor";
    bytes32 internal constant WATCHER = "watcher";
    bytes32 internal constant OPERATOR = "operator";
    bytes32 internal constant GATEWAY = "gateway";

    bytes32 internal constant RETAINED = "RETAINED";
    bytes32 internal constant TREASURY = "treasury";

    bytes32 internal constant CUSTODY = "CUSTODY";

    // Kinds of account.
    bytes32 internal constant CHAIN = "chain";
    bytes32 internal constant PAYEE = "payee";
    bytes32 internal constant REPUBLIC = "republic";

    // Parameters that contracts read.
    bytes32 internal constant DIRECT_SETTLEMENT = "direct_settlement";
    bytes32 internal constant ORDER_DELAY = "order_delay";
    bytes32 internal constant PAYEE_WAIT = "payee_wait";
    bytes32 internal constant COMMITMENT_DAY_CAP = "commitment_day_cap";

    /// @notice Whether this is one of the ten roles (S1).
    function isRole(bytes32 name) internal pure returns (bool) {
        return name == COUNCIL || name == AUTHORITY || name == CERTIFIER || name == AUDITOR || name == WATCHER
            || name == OPERATOR || name == GATEWAY || name == TREASURY || name == "maslikhat" || name == "akimat";
    }

    /// @notice Whether this is one of the four parts of Alatau (B1).
    function isPlace(bytes32 name) internal pure returns (bool) {
        return name == "alatau-gate" || name == "alatau-golden" || name == "alatau-growing" || name == "alatau-green";
    }

    /// @notice Whether RETAINED, the only fund that a contract holds, may pay for this sector (B1, G6).
    function isInfrastructure(bytes32 name) internal pure returns (bool) {
        return name == "roads" || name == "water" || name == "sewerage" || name == "drainage" || name == "power"
            || name == "heat" || name == "gas" || name == "transport" || name == "telecom" || name == "waste";
    }

    /// @notice Whether any fund may pay for this sector.
    function isSector(bytes32 name) internal pure returns (bool) {
        return isInfrastructure(name) || name == "social" || name == "administration";
    }

    /// @notice Whether this is one of the four funds (N2).
    function isFund(bytes32 name) internal pure returns (bool) {
        return name == RETAINED || name == "AUTHORITY" || name == "MUNICIPAL" || name == CUSTODY;
    }

    /// @notice The least and the most value of a parameter, and its value until an act is in force (S5).
    /// `most` is zero for a name that is no parameter.
    function bounds(bytes32 name) internal pure returns (uint128 least, uint128 most, uint128 unset) {
        if (name == DIRECT_SETTLEMENT) return (0, 1, 0);
        if (name == "self_sufficient") return (0, 1, 0);
        if (name == "anchor_gap") return (1 hours, 7 days, 2 days);
        if (name == ORDER_DELAY) return (1 days, 30 days, 1 days);
        if (name == PAYEE_WAIT) return (14 days, 365 days, 14 days);
        if (name == COMMITMENT_DAY_CAP) return (100, 10_000, 5_000);
        if (name == "rate_band") return (1, 2_000, 1_000);
        if (name == "rate_age") return (60, 7 days, 1 days);
        if (name == "exchange_band") return (1, 500, 200);
        if (name == "exchange_loss") return (0, 1_000_000_000_000_000, 100_000_000_000);
        if (name == "provider_cap") return (0, 1_000_000_000_000_000, 100_000_000_000);
        if (name == "refund_cap") return (0, 1_000_000_000_000_000, 100_000_000_000);
        if (name == "block_budget_until") return (1_830_279_600, 4_102_444_800, 1_830_279_600);
        return (0, 0, 0);
    }

    /// @notice Whether a word is a name: 1 to 31 visible ASCII characters, then zeros only (E3).
    function isName(bytes32 word) internal pure returns (bool) {
        uint256 length = 0;
        while (length < 32 && word[length] >= 0x21 && word[length] <= 0x7e) ++length;
        // What follows the last character must be nothing; a shift by 256 bits cannot happen, length is below 32 here.
        return length != 0 && length < 32 && (word << (8 * length)) == 0;
    }
}
